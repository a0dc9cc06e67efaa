"""PASCAL Context on VOC 2010: 59 classes, with a background of all others (Context60) or with it ignored (Context59)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from clearclip.contents import opened
from clearclip.datasets.base import Facts
from clearclip.datasets.benchmark import Benchmark
from clearclip.datasets.files import Pair, pairs
from clearclip.datasets.labels import IGNORE, BadLabel, Rule, read_label, without_background
from clearclip.textfiles import read_text

# The 59 frequent ones of the 459 classes (numbered from 1) in the .mat files, in the order of their names, which is
# that of the class list too.
FREQUENT = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
MAT_RULE = dict.fromkeys(range(460), 0) | {raw: cls for cls, raw in enumerate(FREQUENT, 1)}
PNG_RULE = {raw: raw for raw in range(60)} | {255: IGNORE}


class Context60(Benchmark):
    """PASCAL Context with everything outside the 59 classes as background.

    The labels are the original .mat files or, where there are any, the PNG files that mmsegmentation
    converts them to; each comes with a list of its own for the split, one picture shorter for the PNG files.
    """

    name = "context60"
    facts = Facts("Context60", background=True, threshold=0.15, printed="Context60")
    folder = "context"
    class_file = "context"
    counts: ClassVar = {"val": (5104, 5105), "train": (4996, 4998)}
    unpacked = ("VOCdevkit/VOC2010", "VOC2010")
    tree = """\
  VOCdevkit/VOC2010/
    JPEGImages/2008_000002.jpg …
  with the original labels
    ImageSets/Main/val.txt
    trainval/2008_000002.mat …
  or with those that mmsegmentation converted
    ImageSets/SegmentationContext/val.txt
    SegmentationClassContext/2008_000002.png …
"""

    def layout(self) -> tuple[list[Pair], Rule]:
        """The pairs of the split's list, with .png labels if there is their folder, otherwise with .mat labels."""
        labels = self.part("SegmentationClassContext", "trainval")
        converted = labels.name == "SegmentationClassContext"
        lists = (f"ImageSets/SegmentationContext/{self.split}.txt", f"ImageSets/Main/{self.split}.txt")
        listed = self.part(lists[0] if converted else lists[1])
        names = read_text(listed).split() if listed.is_file() else []
        images, ending = self.part("JPEGImages"), ".png" if converted else ".mat"
        return pairs(names, images, labels, label_ending=ending), PNG_RULE if converted else MAT_RULE

    def read(self, path: Path) -> NDArray[np.integer]:
        """The raw ids of a .png or a .mat file, (H, W)."""
        return read_label(path) if path.suffix == ".png" else read_mat(path)


class Context59(Context60):
    """PASCAL Context with everything outside the 59 classes ignored."""

    name = "context59"
    facts = Facts("Context59", printed="Context59")

    def layout(self) -> tuple[list[Pair], Rule]:
        """The same pairs; the background is ignored."""
        expected, rule = super().layout()
        return expected, without_background(rule)


def read_mat(path: Path) -> NDArray[np.integer]:
    """The 459-class ids (H, W) of an original label file; raises `BadLabel`."""
    try:
        with opened(path) as file:
            return np.asarray(loadmat(file)["LabelMap"], np.uint16)
    except Exception as error:  # scipy raises all kinds on broken files
        raise BadLabel(f"{path}: no .mat file with a LabelMap ({error})") from error
