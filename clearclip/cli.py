"""What every command line shares: options from the words, and what a mistake or Ctrl-C looks like."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import tyro

from clearclip.errors import Finished, UserError

T = TypeVar("T")


def options(kind: type[T], description: str) -> T:
    """The options of a command from the command line; a wrong one exits with code 2 and says what is allowed."""
    spec = sys.modules["__main__"].__spec__
    prog = f"python -m {spec.name.removesuffix('.__main__')}" if spec else None
    return tyro.cli(kind, prog=prog, description=description, config=(tyro.conf.FlagCreatePairsOff,))


def run(main: Callable[[], None]) -> NoReturn:
    """Run a command: a user's mistake gives one message and exit code 2, Ctrl-C says that nothing is lost."""
    os.environ["MPLBACKEND"] = "agg"  # commands only write files; a notebook keeps its own backend
    if int(os.environ.get("RANK", 0)) > 0:  # of the processes that torchrun starts only the first speaks
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (open as long as the process lives)
    try:
        main()
    except Finished:
        pass  # of the processes of a run only the first has something left to write
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; what is written is kept, and statistics continue with the same command", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
