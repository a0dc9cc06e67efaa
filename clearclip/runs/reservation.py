"""An output belongs to one run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from clearclip import torchrun
from clearclip.errors import UserError
from clearclip.runs import unfinished_files
from clearclip.runs.processes import processes

PATIENCE = 0.5  # seconds for another run to let go of a lock


@contextmanager
def reserved(output: Path, restart: bool = False) -> Iterator[None]:
    """Hold an output for a run, all processes of which begin when the first one has it.

    Args:
        output: the Dataset's file.
        restart: set aside what interrupted runs have left for it, unless torchrun has started this run again itself.

    Raises: `UserError` if another run holds it.
    """
    group = processes()
    with _lock(output) if group.number == 0 else nullcontext():
        if restart and group.number == 0 and not torchrun.restarts():
            unfinished_files.set_all_aside(output)
        group.gather(None)
        yield


@contextmanager
def _lock(output: Path) -> Iterator[None]:
    """The lock of an output, which the system takes back from a process that is killed."""
    made = [folder for folder in output.parents if not folder.exists()]  # the innermost first
    output.parent.mkdir(parents=True, exist_ok=True)
    file = output.with_name(f".{output.name}.lock")
    lock = FileLock(file)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout as error:
        raise UserError(
            f"another run is writing {output}. Wait until it has ended, or choose another --output."
        ) from error
    try:
        yield
    finally:
        # before it is released: who waits for it sees that it is gone, and makes a new one
        file.unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # a folder that is not empty stays
            for folder in made:
                folder.rmdir()
