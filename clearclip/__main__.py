"""One command for everything: `clearclip entropy …`, `clearclip segment …`, `clearclip figures …`."""

from __future__ import annotations

import sys
from importlib import import_module

from clearclip import cli
from clearclip.doors import COMMANDS, overview
from clearclip.errors import UserError, closest
from clearclip.version import __version__


def dispatch() -> int | None:
    """Run the command that is named, or list all of them."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"clearclip-analysis {__version__}")
        return 0
    if name not in COMMANDS:
        raise UserError(
            f"there is no command {name!r}; the closest are {closest(name, list(COMMANDS))}. clearclip --help lists all."
        )
    sys.argv = [f"clearclip {name}", *words]
    return import_module(COMMANDS[name]).main()


def main() -> None:
    """The console script `clearclip`, and `python -m clearclip`."""
    cli.run(dispatch)


if __name__ == "__main__":
    main()
