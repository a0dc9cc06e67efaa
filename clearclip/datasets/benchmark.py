"""A published benchmark: a folder in its original layout, a split, and one of two lists of class names."""

from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import ClassVar

from clearclip.datasets.files import LabelledFiles
from clearclip.errors import UserError

NAMES = ("standard", "clearclip")


class Benchmark(LabelledFiles):
    """A benchmark on disk; ``names`` are the data set's own class names, or those of ClearCLIP's published run.

    Raises `UserError` as `LabelledFiles` does, and for another split or list of names.
    """

    class_file: ClassVar[str]
    background: ClassVar[bool] = False  # whether class 0 is "background", before those of the file
    counts: ClassVar[dict[str, tuple[int, ...]]]  # split → published numbers of pictures
    unpacked: ClassVar[tuple[str, ...]] = ()  # folders that the archive makes around the data

    def __init__(
        self, root: str | PathLike[str], split: str = "val", names: str = "clearclip", partial: bool = False
    ) -> None:
        if split not in self.counts:
            raise UserError(f"{self.name} has no split {split!r}; choose {' or '.join(self.counts)}.")
        self.split, self.published = split, self.counts[split]
        self.classes = ["background"] * self.background + class_names(self.class_file, names)
        inner = (Path(root) / folder for folder in self.unpacked)
        super().__init__(next((folder for folder in inner if folder.is_dir()), Path(root)), partial)


def class_names(file: str, names: str = "clearclip") -> list[str]:
    """One of the two lists of class names in classes/<file>.txt; raises `UserError` for a list of another name.

    >>> class_names("voc", "standard")[3], class_names("voc", "clearclip")[3]
    ('boat', 'ship')
    """
    if names not in NAMES:
        raise UserError(f"there are no class names {names!r}; choose {' or '.join(NAMES)}.")
    lines = (files("clearclip.datasets") / "classes" / f"{file}.txt").read_text("utf-8").splitlines()
    header, *rows = (line.split("\t") for line in lines)
    return [row[header.index(names)] for row in rows]
