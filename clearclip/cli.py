"""What every command line shares: options from the words, and what a mistake or Ctrl-C looks like."""

import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import tyro

from clearclip.errors import UserError

T = TypeVar("T")


def options(kind: type[T], description: str) -> T:
    """The options of a command from the command line; a wrong one exits with code 2 and says what is allowed."""
    prog = f"python -m {sys.modules['__main__'].__spec__.name}" if sys.modules["__main__"].__spec__ else None
    return tyro.cli(kind, prog=prog, description=description, config=(tyro.conf.FlagCreatePairsOff,))


def run(main: Callable[[], None]) -> NoReturn:
    """Run a command: a user's mistake gives one message and exit code 2, Ctrl-C says that nothing is lost."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; what was measured is kept, the same command continues", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
