"""Files that commands write: each appears complete or not at all, at a place that was tried before anything was computed."""

from __future__ import annotations

import errno
import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from clearclip.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Unwritable(UserError):
    """A file cannot be written, for a `reason` that the system gives."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.reason = error.strerror or str(error)
        way_out = "Make room and repeat the command" if error.errno in FULL else "Choose another place for it"
        super().__init__(f"{path} cannot be written: {self.reason}. {way_out}.")


def write(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file, all of it or nothing: what was there stays until the new content is safe on the disk.

    Libraries only make the content, in memory. So none of them meets a full disk, at which HDF5 ends the process.

    Args:
        path: the file; its folder is made if it is missing.
        content: text is written as UTF-8.

    Raises: `Unwritable` if that is not possible.
    """
    with opened(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece, all of it or nothing, as `write` does: it takes its name at the end of the `with`."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, glob.escape(path.name))
        try:
            with unfinished.open("w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise Unwritable(path, error) from error


def remove_leftovers(folder: Path, name: str) -> None:
    """Delete what processes that were killed while they wrote files of this name, a glob pattern, have left behind."""
    for leftover in folder.glob(f".{name}.*.tmp"):
        writer = leftover.name.split(".")[-2]
        if writer.isdecimal() and not _lives(int(writer)):
            leftover.unlink(missing_ok=True)


def refuse_unwritable(*paths: Path) -> None:
    """Find out before hours of work whether files can be written, by writing beside them; nothing is left behind.

    Raises: `UserError` for a file that is a folder; `Unwritable` for a folder that is a file, or that takes no files.
    """
    for path in paths:
        try:
            if path.is_dir():
                raise UserError(f"{path} is a folder, and a file of that name is to be written: choose another name.")
            folder = next(folder for folder in path.absolute().parents if folder.exists())
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"\0")
        except OSError as error:
            raise Unwritable(path, error) from error


def _lives(process: int) -> bool:
    """Whether a process of this number is running on this machine."""
    if os.name != "posix":  # elsewhere the question would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
