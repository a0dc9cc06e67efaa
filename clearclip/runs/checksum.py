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


def sealed(content: bytes | memoryview) -> bytes:
    """The content of a file with its checksum behind it.

    >>> unsealed(sealed(b"content")), unsealed(b"content")
    (b'content', None)
    """
    return b"".join([content, MARK, hashlib.sha256(content).hexdigest().encode()])


def unsealed(content: bytes) -> bytes | None:
    """What stands before the checksum; None if there is no checksum, or one that does not fit."""
    start, end = content[:-LENGTH], content[-LENGTH:]
    return start if end == MARK + hashlib.sha256(start).hexdigest().encode() else None


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
