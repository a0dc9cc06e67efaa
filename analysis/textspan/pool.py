"""Pools of texts: those that come with the package, and a user's own, one text per line."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from clearclip.datasets.drawn.captions import FACTS, article
from clearclip.datasets.drawn.textures import STUFF
from clearclip.errors import UserError
from clearclip.textfiles import read_lines, readable
from clearclip.words import listed, repeated

INCLUDED = ("general", "scenes")


class Pool(NamedTuple):
    """Texts to choose from."""

    name: str
    texts: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the texts, in their order."""
        return hashlib.sha256("\n".join(self.texts).encode()).hexdigest()


def pool(which: str) -> Pool:
    """The pool of a name, or of a file.

    Args:
        which: "general" (colors, textures, shapes, materials, places, animals, light, numbers, positions …, written for this
            toolkit), "scenes" (what is in drawn scenes, all that `clip_tiny` has words for), or a text file with one text
            per line. Blank lines, and lines that begin with #, are left out.

    Raises:
        UserError: there is no such pool or file, or a text is there twice, or there is none.

    >>> pool("scenes").texts[:2], len(pool("general").texts) > 150
    (('an apple', 'a ball'), True)
    """
    if which == "scenes":
        return Pool(which, tuple(fact if fact in STUFF else article(fact) for fact in FACTS))
    if which == "general":
        lines = (files("analysis.textspan") / "pools" / "general.txt").read_text("utf-8").splitlines()
        return Pool(which, _texts(lines))
    if not Path(which).is_file():
        raise UserError(f"texts {which!r}: choose {' or '.join(INCLUDED)}, or name a text file with one text per line.")
    texts = _texts(read_lines(which))
    if twice := repeated([" ".join(text.lower().split()) for text in texts]):
        raise UserError(f"{which}: {listed(twice)} is there twice; give each text once.")
    if not texts:
        raise UserError(f"{which} holds no text: write one per line.")
    return Pool(readable(which), texts)


def _texts(lines: list[str]) -> tuple[str, ...]:
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
