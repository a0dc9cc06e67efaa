"""Print what makes a shell complete the commands and options of `clearclip`.

clearclip completion bash > ~/.local/share/bash-completion/completions/clearclip
clearclip completion zsh > ~/.zfunc/_clearclip
clearclip completion fish > ~/.config/fish/completions/clearclip.fish
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any, Literal

import tyro

from clearclip import cli
from clearclip.doors import COMMANDS, question


@dataclass(frozen=True)
class Options:
    """Which shell."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """bash, zsh or fish."""


def main() -> None:
    """The command `clearclip completion`."""
    options = cli.parse(Options, __doc__)
    with redirect_stdout(io.StringIO()) as script, suppress(SystemExit):
        tyro.cli(everything(), prog="clearclip", args=["--tyro-print-completion", options.shell], config=cli.STYLE)
    print(one_line_descriptions(script.getvalue()))


def one_line_descriptions(script: str) -> str:
    """A shell reads one proposal per line, so that the lines of a long description would be proposals as well."""
    lines = script.splitlines()
    return "\n".join(line.replace(r"\n", " ") if line.startswith("COMPLETION_SPEC = ") else line for line in lines)


def everything() -> Any:
    """The options of all commands as one type: a union with one member per command."""
    return reduce(
        or_,
        (
            Annotated[import_module(module).Options, tyro.conf.subcommand(name, description=question(module))]
            for name, module in COMMANDS.items()
        ),
    )


if __name__ == "__main__":
    cli.run(main)
