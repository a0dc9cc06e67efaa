"""A checksum at the end of a file: one flipped bit in a result is found before HDF5 looks at it.

HDF5 takes no notice of what stands behind its content, so any program reads such a file. One that writes it anew leaves the
checksum out, and without one nothing is compared.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

MARK = b"\nsha256 "  # before the digest of all that stands before it, in hexadecimal digits
LENGTH = len(MARK) + 64


def seal(path: Path) -> None:
    """Put the checksum of a file behind its content."""
    with path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.write(MARK + digest.encode())


def broken(path: Path) -> bool:
    """Whether a file ends with a checksum that does not fit its content."""
    size = path.stat().st_size - LENGTH
    with path.open("rb") as file:
        file.seek(max(0, size))
        end = re.fullmatch(re.escape(MARK) + b"([0-9a-f]{64})", file.read())
        if end is None:
            return False
        file.seek(0)
        digest, left = hashlib.sha256(), size
        while left and (block := file.read(min(left, 2**20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest().encode() != end[1]
