"""Pictures and their label files on disk: found at once, read one by one."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clearclip.datasets.base import Sample
from clearclip.datasets.labels import IGNORE, BadLabel, Rule, read_label, relabel, table
from clearclip.errors import UserError
from clearclip.pictures import read_image
from clearclip.textfiles import readable

LISTED = 5  # of many file names in one message


class Pair(NamedTuple):
    """A picture and its label file, which may be missing."""

    name: str
    image: Path
    label: Path


def pairs(
    names: Iterable[str], images: Path, labels: Path, image_ending: str = ".jpg", label_ending: str = ".png"
) -> list[Pair]:
    """The pair of every name, in the order of the names."""
    return [
        Pair(readable(name), images / f"{name}{image_ending}", labels / f"{name}{label_ending}")
        for name in sorted(names)
    ]


def names_in(folder: Path, ending: str) -> set[str]:
    """What the files below a folder are called, without the ending that they share; empty if there is no folder."""
    files = (path for path in folder.rglob(f"*{ending}") if not path.name.startswith("."))
    return {path.relative_to(folder).as_posix().removesuffix(ending) for path in files}


class LabelledFiles:
    """A data set on disk as a sequence of samples; construction lists the files, an index reads one pair.

    A subclass says in `layout` which pairs there should be and how raw ids become classes. ``missing`` are the files
    that pairs lack: without ``partial`` one of them is enough to refuse the folder, with it complete pairs are used.

    Raises `UserError` for a missing or half-unpacked folder; an index raises `BadImage` or `BadLabel` with the file's
    name.
    """

    name: str
    classes: list[str]
    ignore_index = IGNORE
    tree: str  # how the folder must look
    published: tuple[int, ...] = ()  # how many pictures a complete one has

    def __init__(self, root: str | PathLike[str], partial: bool = False) -> None:
        self.root = Path(root)
        self.absent: list[str] = []
        expected, rule = self.layout()
        self.missing = [path for pair in expected for path in (pair.image, pair.label) if not path.is_file()]
        gone = set(self.missing)
        self.pairs = [pair for pair in expected if not {pair.image, pair.label} & gone]
        if self.absent:
            raise self.incomplete(self.absent)
        if not self.pairs or (self.missing and not partial):
            raise self.incomplete(
                [path.relative_to(self.root).as_posix() for path in self.missing] or ["every picture"],
                f"{len(self.pairs)} of {len(expected)} pairs of picture and label",
                "\nTo use the complete pairs all the same: partial=True." if self.pairs else "",
            )
        self.lookup = table(rule)

    def layout(self) -> tuple[list[Pair], Rule]:
        """Every pair that should be there, and the class of every raw id."""
        raise NotImplementedError

    def part(self, *places: str) -> Path:
        """The first of several places that exists below the root; if none does, that is remembered as absent."""
        for place in places:
            if (self.root / place).exists():
                return self.root / place
        self.absent.append(" or ".join(places))
        return self.root / places[0]

    def incomplete(self, missing: list[str], contents: str = "", advice: str = "") -> UserError:
        """The error that says what was expected, what was found and what is missing."""
        if not self.root.is_dir():
            contents = "no such folder"
        elif not contents:
            entries = sorted(path.name for path in self.root.iterdir())
            contents = shortened(entries) if entries else "an empty folder"
        return UserError(
            f"{self.root}: {self.name} is missing or only half unpacked.\n"
            f"found: {contents}\nmissing: {shortened(missing)}\nexpected:\n{self.tree.rstrip()}{advice}"
        )

    @property
    def identity(self) -> str:
        """What the raw ids of its label files mean, as text; what is in the files is known once they are read."""
        return "\n".join([self.name, *self.classes, " ".join(map(str, self.lookup.tolist()))])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {len(self)} pictures, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        name, image_path, label_path = self.pairs[index]
        image, raw = read_image(image_path), self.read(label_path)
        if raw.shape != (image.height, image.width):
            sizes = f"{' × '.join(map(str, raw.shape[::-1]))} and the picture {image.width} × {image.height}"
            raise BadLabel(f"{label_path}: the label is {sizes} pixels")
        try:
            return Sample(image, relabel(raw, self.lookup), name)
        except ValueError as error:
            raise BadLabel(f"{label_path}: {error}") from error

    def read(self, path: Path) -> NDArray[np.integer]:
        """The raw ids of a label file, (H, W)."""
        return read_label(path)


def shortened(names: list[str]) -> str:
    """The first few of many names.

    >>> shortened(list("abcdefgh"))
    'a, b, c, d, e and 3 more'
    """
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
