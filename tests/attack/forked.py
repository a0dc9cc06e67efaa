"""Commands in processes that are forked from a warm one: a fresh process for each in a tenth of a second."""

from __future__ import annotations

import faulthandler
import io
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from clearclip import boundary, cli
from clearclip.runs import stream

GIB = 2**30
MEMORY = 8 * GIB  # of address space: what asks for more fails at once, instead of slowing the machine down
STOPS = {signal.SIGINT, signal.SIGTERM}
DEADLINE = 120.0  # seconds after which a command counts as hanging
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, and what it printed."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str


class Started:
    """A command that is running."""

    def __init__(self, words: tuple[str, ...], folder: Path, process: BaseProcess, output: Path) -> None:
        self.words, self.folder, self.process, self.output = words, folder, process, output

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended already."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def ended(self, deadline: float = DEADLINE) -> Ended:
        """Wait for the end; one that hangs is killed and counts as a failure."""
        self.process.join(deadline)
        hangs = self.process.is_alive()
        if hangs:
            self.signal(signal.SIGUSR1)  # all threads say where they are
            self.process.join(1.0)
            self.process.kill()
            self.process.join()
        out, err = (file.read_text("utf-8", "replace") for file in (self.output / "out", self.output / "err"))
        if hangs:
            pytest.fail(f"{' '.join(self.words)} hangs for {deadline:g} s\n{err[-5000:]}")
        return Ended(self.words, self.process.exitcode, out, err)


def start(
    *words: object,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    output: Path | None = None,
    file_size: int | None = None,
    save_every: float | None = None,
) -> Started:
    """Start `python -m words`.

    Args:
        words: the module and its options.
        cwd: the current folder.
        env: environment variables, beside those that are there.
        output: the folder for what it prints, by default a hidden one beside `cwd`.
        file_size: no file may grow beyond so many bytes, as on a full disk.
        save_every: seconds between two writes of an unfinished run, instead of 20.
    """
    texts = tuple(map(str, words))
    output = output or cwd.parent / f".{cwd.name}.printed"
    output.mkdir(exist_ok=True)
    for name in ("out", "err"):
        (output / name).touch()
    process = _server().Process(target=_run, args=(texts, cwd, dict(env or {}), output, file_size, save_every))
    process.start()
    return Started(texts, cwd, process, output)


def command(*words: object, cwd: Path, **how: object) -> Ended:
    """Run `python -m words` to its end; arguments as for `start`."""
    return start(*words, cwd=cwd, **how).ended()


def _server() -> multiprocessing.context.ForkServerContext:
    """The warm process, started with the first command."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["warm"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        multiprocessing.forkserver.ensure_running()
    return server


def _run(
    words: tuple[str, ...],
    cwd: Path,
    env: dict[str, str],
    output: Path,
    file_size: int | None,
    save_every: float | None,
) -> None:
    """What happens in the forked process."""
    os.chdir(cwd)
    os.environ.update(env)
    for number, name in enumerate((os.devnull, output / "out", output / "err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)
    faulthandler.register(signal.SIGUSR1, sys.stderr)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    patch = pytest.MonkeyPatch()  # for good: the process ends with the command
    patch.setattr(cli, "run", lambda main: boundary.run(lambda: _stoppable(main)))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    if save_every is not None:
        patch.setattr(stream, "SAVE_EVERY", save_every)
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _stoppable(main: Callable[[], int | None]) -> int | None:
    """Only a command itself is stopped by Ctrl-C or SIGTERM, not what forks it and tidies up behind it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    try:
        return main()
    finally:
        for number in STOPS:  # not the mask: it is one of each thread
            signal.signal(number, signal.SIG_IGN)


def clean(ended: Ended, codes: tuple[int, ...] = (0, 2)) -> None:
    """One of these exit codes, no traceback, and a message wherever it is 2."""
    told = f"{' '.join(ended.words)}\nexit code {ended.code}\n{ended.err[-3000:]}"
    assert "Traceback" not in ended.err and ended.code in codes, told
    assert ended.code != 2 or ended.err.strip(), told


def wait_for_unfinished(folder: Path, process: Started, deadline: float = 20.0) -> None:
    """Wait until a file in a folder is half written (its temporary file is there), or the command has ended."""
    until = time.monotonic() + deadline
    while time.monotonic() < until and process.process.is_alive():
        if any(path.suffix == ".tmp" for path in folder.iterdir()):
            return
        time.sleep(0.0005)
