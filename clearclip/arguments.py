"""What no command line may say, whatever the command: an empty word, an option without its value, a count below one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from clearclip.errors import UserError

LEAST = {"limit": "at least one picture is needed", "batch_size": "at least 1"}


def refuse_empty(words: Sequence[str]) -> None:
    """Raise `UserError` for an empty word: a folder "" would be the one that the command runs in, a name "" the default.

    >>> refuse_empty(["--images", "photos"])
    """
    for before, word in pairwise(["", *words]):
        option, equals, value = word.partition("=")
        if not word.strip() or (option.startswith("--") and equals and not value.strip()):
            name = option if option.startswith("--") else before if before.startswith("--") else "a word of the command"
            raise UserError(f"{name} is empty: give a value, or leave the option out.")


def refuse_without_value(words: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise `UserError` for an option that is named without a value, which would silently be no list at all.

    Args:
        words: the command line, which has been parsed.
        options: what was read from it, by name; switches are bool.

    >>> refuse_without_value(["--model", "clip_tiny", "--random"], {"model": ["clip_tiny"], "random": True})
    """
    switches = {f"--{name.replace('_', '-')}" for name, value in options.items() if isinstance(value, bool)}
    for word, after in pairwise([*words, "--"]):
        if word.startswith("--") and after.startswith("--") and "=" not in word and word not in {*switches, "--"}:
            raise UserError(f"{word} is given without a value: write one behind it, or leave the option out.")


def refuse_no_count(options: Mapping[str, Any]) -> None:
    """Raise `UserError` for a number of pictures below 1, which Python would count from the end.

    >>> refuse_no_count({"limit": None, "batch_size": 8})
    """
    for name, least in LEAST.items():
        if (count := options.get(name)) is not None and count < 1:
            raise UserError(f"{name.replace('_', ' ')} {count}: {least}.")
