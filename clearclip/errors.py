"""The one exception that means: what was asked cannot be done, and here is what to do instead."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from clearclip.words import listed, repeated


class UserError(ValueError):
    """A mistake of the caller: the command lines print its text without a traceback and exit with code 2."""


class Finished(Exception):
    """Raised in all processes of a run but the first when their share is done; the command lines exit with code 0."""


@contextmanager
def of_file(path: Path | None) -> Iterator[None]:
    """Put a file before the message of a `UserError` about what it holds; without one, nothing.

    >>> with of_file(Path("alpha.nc")):
    ...     raise UserError("no recipe has an α.")
    Traceback (most recent call last):
    clearclip.errors.UserError: alpha.nc: no recipe has an α.
    """
    try:
        yield
    except UserError as error:
        if path is None or str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error


def overflow_hint(precision: str) -> str:
    """What to do about values that are not finite, as the end of a message."""
    if precision == "fp16":
        return " In fp16 large residuals overflow: use bf16 or fp32."
    return " Its weights hold numbers that are not finite, or too large ones: take another checkpoint."


def closest(name: str, known: list[str], count: int = 4) -> str:
    """The known names nearest to a misspelt one, as text for an error.

    >>> closest("dino_vit16", ["dino_vitb16", "dino_vits16", "clip_vitb16"], count=2)
    'dino_vits16, dino_vitb16'
    """
    return ", ".join(get_close_matches(name, known, n=count, cutoff=0.3) or sorted(known)[:count])


def refuse_repeated(what: str, values: Sequence[object]) -> None:
    """Raise `UserError` for a list in which something stands more than once, which a result could not tell apart.

    >>> refuse_repeated("layers", [1, 6])
    """
    if twice := repeated(values):
        raise UserError(f"{what} {', '.join(map(str, values))}: {listed(list(map(str, twice)))} once is enough.")
