"""Anybody's own pictures with labels: a folder with images/, labels/ and classes.txt."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from clearclip.datasets.files import LabelledFiles, Pair, names_in
from clearclip.datasets.labels import IGNORE, Rule
from clearclip.errors import UserError
from clearclip.pictures import find_images
from clearclip.textfiles import read_lines, readable
from clearclip.words import listed, repeated

IGNORED_NAMES = ("void", "ignore", "unlabelled", "unlabeled")


class FolderDataset(LabelledFiles):
    """Pictures in images/, PNG maps of class indices under the same names in labels/, class names in classes.txt.

    A line of classes.txt is a name, counted from 0, or "index<TAB>name". An index whose name is void, ignore,
    unlabelled or unlabeled is ignored, as is 255; the others, in their order, are ``classes``, and labels are indices
    into that list, so a void 0 moves class 1 to 0.

    Raises `UserError` as `LabelledFiles` does, for a classes.txt that is not such a list, and for two pictures that would
    share one label.
    """

    tree = """\
  images/anything.jpg …
  labels/anything.png …       (8- or 16-bit, one class index per pixel)
  classes.txt                 (one name per line, or "index<TAB>name")
"""

    def __init__(self, root: str | PathLike[str], partial: bool = False) -> None:
        self.name = readable(os.path.basename(os.path.realpath(root)))  # noqa: PTH119 (resolve() fails on a loop)
        super().__init__(root, partial)

    def layout(self) -> tuple[list[Pair], Rule]:
        """Pictures and labels of the same relative path."""
        images, labels, table = self.part("images"), self.part("labels"), self.part("classes.txt")
        if self.absent:
            return [], {}
        every = read_classes(table)
        names = {index: name for index, name in every.items() if name.lower() not in IGNORED_NAMES}
        self.classes = list(names.values())
        if twice := repeated(map(str.lower, self.classes)):
            raise UserError(f"{table}: {listed(twice)} stands for two classes; each class has a name of its own.")
        rule = dict.fromkeys([*every, 255], IGNORE) | {raw: cls for cls, raw in enumerate(names)}
        return self._pairs(images, labels), rule

    def _pairs(self, images: Path, labels: Path) -> list[Pair]:
        pictures: dict[str, Path] = {}
        for path in find_images(images):
            name = path.relative_to(images).with_suffix("").as_posix()
            if pictures.setdefault(name, path) != path:
                raise UserError(f"{path} and {pictures[name].name} would share one label; rename one of them.")
        alone = {name: images / f"{name}.jpg" for name in names_in(labels, ".png") - set(pictures)}
        every = sorted((pictures | alone).items())
        return [Pair(readable(name), path, labels / f"{name}.png") for name, path in every]


def read_classes(path: Path) -> dict[int, str]:
    """Class names by index, in the order of the indices; raises `UserError` that names the line in the way."""
    names: dict[int, str] = {}
    lines = read_lines(path)
    numbered = any("\t" in line for line in lines)
    for place, line in enumerate(lines):
        index, tab, name = line.partition("\t") if numbered else (str(place), "\t", line)
        if not (tab and name.strip() and index.strip().isdecimal() and int(index) < IGNORE and int(index) not in names):
            raise UserError(
                f"{path}: line {place + 1}, {line!r}, is not a class. Write one name per line, or, in every line, an "
                f"index from 0 to {IGNORE - 1} that no other line has, a tab and a name."
            )
        names[int(index)] = name.strip()
    if not names:
        raise UserError(f"{path}: no class is named in it.")
    return dict(sorted(names.items()))
