"""Which bytes were read: a result is about the contents of its pictures, and not about their names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

GONE = "gone"  # the stamp and the contents of a file that is not there


class FileContents(NamedTuple):
    """What a file held: `stamp` is its size and times, which change when it is written, and `sha256` is of its bytes."""

    stamp: str
    sha256: str


@dataclass
class Notes:
    """What was read meanwhile: files by their paths, and the SHA-256 of pixels and labels that no file is known of."""

    files: dict[Path, FileContents] = field(default_factory=dict)
    pixels: list[str] = field(default_factory=list)


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)  # every reading thread has its own


@contextmanager
def noted() -> Iterator[Notes]:
    """Have everything noted that is read inside the `with`, by this thread."""
    token = _notes.set(notes := Notes())
    try:
        yield notes
    finally:
        _notes.reset(token)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to be decoded; where contents are `noted`, it is hashed first, through the same open file.

    So a large file need not lie in memory, and a stack of pictures is decoded only as far as it is wanted.

    Raises: OSError as `open` does, and if the file is written while it is read.
    """
    with Path(path).open("rb") as file:
        notes, before = _notes.get(), os.fstat(file.fileno())
        if notes is not None:
            notes.files[Path(path)] = FileContents(_stamp(before), hashlib.file_digest(file, "sha256").hexdigest())
            file.seek(0)
        yield file
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise OSError("it was written while it was read")


def note_pixels(*parts: Any) -> None:
    """Note a picture, and labels if it has any, that came from no known file."""
    notes = _notes.get()
    if notes is not None:
        notes.pixels.append(pixel_digest(*parts))


def pixel_digest(*parts: Any) -> str:
    """The SHA-256 of pictures, arrays and names: their shapes, types and values.

    >>> pixel_digest(np.zeros((2, 3))) == pixel_digest(np.zeros((3, 2)))
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        array = np.ascontiguousarray(part)
        digest.update(f"{array.shape} {array.dtype} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def stamp(path: Path) -> str:
    """The size and times of a file: as long as they stay the same, so do its bytes.

    Renaming another file into its place, or setting its time back, changes the time of its inode.
    """
    try:
        return _stamp(path.stat())
    except OSError:
        return GONE


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def contents(path: Path) -> FileContents:
    """The stamp and the SHA-256 of a file as it is now."""
    if not path.is_file():  # a pipe would be waited for
        return FileContents(GONE, GONE)
    try:
        with noted() as notes, opened(path):
            pass
    except OSError:
        return notes.files.get(path, FileContents(GONE, GONE))
    return notes.files[path]
