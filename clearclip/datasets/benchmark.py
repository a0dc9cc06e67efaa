"""A published benchmark: a folder in its original layout, a split, and one of two lists of class names."""

from __future__ import annotations

from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import ClassVar

from clearclip.datasets.base import Facts
from clearclip.datasets.files import LabelledFiles
from clearclip.errors import UserError

NAMES = ("standard", "clearclip")


class Benchmark(LabelledFiles):
    """A benchmark on disk. A new one is a subclass in a file of its own, and its entry in `clearclip.datasets.BENCHMARKS`.

    Args:
        root: its folder.
        split: "val", "train", or another of its ``counts``.
        names: "standard" for the data set's own class names, "clearclip" for those of ClearCLIP's published run.
        partial: whether to use the complete pairs of a half-unpacked folder.
        download: whether to fetch it into the root first, where that is possible.

    Raises:
        UserError: as `LabelledFiles` does; for another split or list of names; where nothing can be downloaded.
    """

    facts: ClassVar[Facts]
    folder: ClassVar[str]  # where it lies below data/ if no folder is named
    class_file: ClassVar[str]  # in classes/, without the background
    counts: ClassVar[dict[str, tuple[int, ...]]]  # split → published numbers of pictures
    unpacked: ClassVar[tuple[str, ...]] = ()  # folders that the archive makes around the data

    def __init__(
        self, root: str | PathLike[str], split: str = "val", names: str = "clearclip", partial: bool = False,
        download: bool = False,
    ) -> None:  # fmt: skip
        if split not in self.counts:
            raise UserError(f"{self.name} has no split {split!r}; choose {' or '.join(self.counts)}.")
        self.split, self.published = split, self.counts[split]
        self.classes = self.class_names(names)
        if download:
            self.fetch(root)
        inner = (Path(root) / folder for folder in self.unpacked)
        super().__init__(next((folder for folder in inner if folder.is_dir()), Path(root)), partial)

    @classmethod
    def class_names(cls, names: str = "clearclip") -> list[str]:
        """All its classes, the background first if it has one."""
        return ["background"] * cls.facts.background + class_names(cls.class_file, names)

    def fetch(self, root: str | PathLike[str]) -> None:
        """Download it below the root."""
        raise UserError(
            f"{self.name} cannot be downloaded from here; docs/guide/benchmarks.md says where to get it by other means."
        )


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
