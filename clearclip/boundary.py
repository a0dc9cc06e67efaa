"""The boundary of every command: whatever is raised inside becomes one message and an exit code; tracebacks are for --debug.

| exit code | what it means |
|---|---|
| 0 | done |
| 1 | done, and the answer is no: `clearclip datasets check voc20` found faults |
| 2 | a mistake of the user, a file that cannot be used, or a limit of the machine; the message says what to do |
| 70 | a bug of this toolkit; the message says how to report it |
| 130, 143 | stopped by Ctrl-C or by SIGTERM; a long run continues with the same command |
| 141 | whoever read the output has gone |
"""

from __future__ import annotations

import faulthandler
import io
import os
import platform
import shlex
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from clearclip import torchrun
from clearclip.errors import Finished
from clearclip.messages import kind, message

DEBUG = "--debug"
DEBUG_HELP = "With --debug, an error also shows where it happened and keeps it in a file for a bug report."
HOW_TO_REPORT = f"Repeat the command with {DEBUG}, and report the file that it then names."
MISTAKE, BUG, GONE = 2, 70, 128 + 13  # as sysexits.h counts an error of the software, and a shell a broken pipe
REPORTED = ("clearclip-analysis", "torch", "timm", "open_clip_torch", "numpy", "xarray", "h5py", "pillow", "matplotlib")

_debug = False  # whether this command was asked to show tracebacks


class Terminated(KeyboardInterrupt):
    """What SIGTERM becomes: schedulers stop a job with it, which is then kept as after Ctrl-C."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and exit; `main` returns its exit code, or nothing for 0."""
    _prepare()
    try:
        with _sigterm_as_interrupt():
            try:
                code = main() or 0
            finally:
                sys.stdout.flush()  # here a reader that has gone, such as `head`, can still be told from a failure
    except Finished:  # of the processes of a run only the first has something left to write
        code = 0
    except BrokenPipeError:
        code = GONE
        _silence_stdout()
    except Exception as error:
        code = report(error)
        if isinstance(error, OSError) and error.filename is None:
            _silence_stdout()  # if it was stdout that could not be written, Python must not try again at its end
    except KeyboardInterrupt as stop:
        word, number = (
            ("terminated", signal.SIGTERM) if isinstance(stop, Terminated) else ("interrupted", signal.SIGINT)
        )
        _say(f"\n{word}; what is written is kept, and a long run continues with the same command")
        code = 128 + number
    sys.exit(code)


def report(error: Exception) -> int:
    """Say on stderr what went wrong, with --debug where as well; returns the exit code for it."""
    told = message(error)
    if told is None:
        _say(f"error: {kind(error)}. This is a bug in clearclip-analysis. {'' if _debug else HOW_TO_REPORT}".rstrip())
    else:
        _say(f"error: {told}")
    if _debug:
        _keep_traceback(error)
    return BUG if told is None else MISTAKE


def _keep_traceback(error: Exception) -> None:
    """Show where an error happened, and keep it in a file with what a bug report needs."""
    where = "".join(traceback.format_exception(error))
    _say(where)
    words = shlex.join([*sys.orig_argv[:1], *sys.argv])
    about = [words, f"Python {platform.python_version()} on {platform.platform()}", *map(_installed, REPORTED)]
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="clearclip-", suffix=".txt", delete=False, errors="replace"
        ) as file:
            file.write("\n".join([*about, "", where]))
    except OSError as failure:
        _say(f"the traceback could not be kept in a file: {failure}")
    else:
        _say(f"this is kept in {file.name}")


def _installed(package: str) -> str:
    """A package with its version."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} is not installed"


def _prepare() -> None:
    """Set up a process as a command: streams that take any text, quiet warnings, figures without a screen."""
    global _debug
    _debug = DEBUG in sys.argv
    sys.argv = [word for word in sys.argv if word != DEBUG]
    if _debug:
        faulthandler.enable(sys.__stderr__ or 2)  # also where a library crashes the whole process
    else:
        sys.unraisablehook = lambda _: None  # an interrupted library's own tidying up, which changes no result
    warnings.showwarning = _note
    # PyTorch's threads sleep while they wait, for one that spins takes a core from whatever else the machine does
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["MPLBACKEND"] = "agg"  # commands only write files; a notebook keeps its own backend
    if torchrun.place()[0] > 0 or sys.stdout is None:  # of torchrun's processes only the first speaks
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (open as long as the process lives)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # any file name can be printed, as on stderr


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises `Terminated` in the main thread, unless whoever started the process has other plans."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def terminate(*_: object) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _note(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a command says it, without the file and line that only a programmer asks for."""
    _say(f"note: {message}")


def _say(text: str) -> None:
    """A line on stderr, if there is still someone to read it."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(text, file=sys.stderr)


def _silence_stdout() -> None:
    """Python writes what is left in a stream at its end; nothing may then go wrong a second time."""
    with suppress(OSError, ValueError):  # a stream in memory has no file number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
