"""ADE20K as the scene parsing challenge of 2016 gives it: 150 classes."""

from __future__ import annotations

from typing import ClassVar

from clearclip.datasets.base import Facts
from clearclip.datasets.benchmark import Benchmark
from clearclip.datasets.files import Pair, names_in, pairs
from clearclip.datasets.labels import IGNORE, Rule

FOLDERS = {"val": "validation", "train": "training"}
RULE = {0: IGNORE} | {raw: raw - 1 for raw in range(1, 151)}  # 0 is everything else


class ADE20K(Benchmark):
    """ADE20K's 150 classes; all other objects are ignored."""

    name = "ade20k"
    facts = Facts("ADE20K", printed="ADE20K")
    folder = "ade20k"
    class_file = "ade20k"
    counts: ClassVar = {"val": (2000,), "train": (20210,)}
    unpacked = ("ADEChallengeData2016",)
    tree = """\
  ADEChallengeData2016/
    images/validation/ADE_val_00000001.jpg …
    annotations/validation/ADE_val_00000001.png …
"""

    def layout(self) -> tuple[list[Pair], Rule]:
        """Pictures and labels of the same name."""
        images, labels = (self.part(f"{kind}/{FOLDERS[self.split]}") for kind in ("images", "annotations"))
        return pairs(names_in(images, ".jpg") | names_in(labels, ".png"), images, labels), RULE
