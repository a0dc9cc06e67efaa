"""PASCAL Context on VOC 2010: 59 classes, with a background of all others (Context60) or with it ignored (Context59)."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from clearclip.datasets.benchmark import Benchmark
from clearclip.datasets.files import Pair, pairs
from clearclip.datasets.labels import IGNORE, BadLabel, Rule, read_label, without_background
from clearclip.errors import UserError

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

    The labels are the original .mat files (which need scipy) or, where there are any, the PNG files that mmsegmentation
    converts them to; each comes with a list of its own for the split, one picture shorter for the PNG files.
    """

    name = "context60"
    class_file = "context"
    background = True
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
        names = listed.read_text().split() if listed.is_file() else []
        found = pairs(names, self.part("JPEGImages"), labels, label_ending=".png" if converted else ".mat")
        return found, PNG_RULE if converted else MAT_RULE

    def read(self, path: Path) -> NDArray[np.integer]:
        """The raw ids of a .png or a .mat file, (H, W)."""
        return read_label(path) if path.suffix == ".png" else read_mat(path)


class Context59(Context60):
    """PASCAL Context with everything outside the 59 classes ignored."""

    name = "context59"
    background = False

    def layout(self) -> tuple[list[Pair], Rule]:
        """The same pairs; the background is ignored."""
        found, rule = super().layout()
        return found, without_background(rule)


def read_mat(path: Path) -> NDArray[np.integer]:
    """The 459-class ids (H, W) of an original label file; raises `BadLabel`, or `UserError` where scipy is missing."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError("the .mat labels of PASCAL Context need scipy: pip install scipy") from error
    try:
        return np.asarray(loadmat(path)["LabelMap"], np.uint16)
    except Exception as error:  # scipy raises all kinds on broken files
        raise BadLabel(f"{path}: no .mat file with a LabelMap ({error})") from error
