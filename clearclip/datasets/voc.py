"""PASCAL VOC 2012: 20 classes, with the background (VOC21) or with it ignored (VOC20)."""

from __future__ import annotations

from os import PathLike
from typing import ClassVar

from torchvision.datasets import VOCSegmentation

from clearclip.datasets.base import Facts
from clearclip.datasets.benchmark import Benchmark
from clearclip.datasets.files import Pair, pairs
from clearclip.datasets.labels import IGNORE, Rule, without_background
from clearclip.errors import UserError
from clearclip.textfiles import read_text

RULE = {raw: raw for raw in range(21)} | {255: IGNORE}  # 255 outlines the objects


class VOC21(Benchmark):
    """VOC 2012 with class 0 as background; ``download`` fetches and unpacks it into the root through torchvision."""

    name = "voc21"
    facts = Facts("VOC21", background=True, threshold=0.5, clip_threshold=0.2, printed="VOC21")
    folder = "voc"
    class_file = "voc"
    counts: ClassVar = {"val": (1449,), "train": (1464,), "trainval": (2913,)}
    unpacked = ("VOCdevkit/VOC2012", "VOC2012")
    tree = """\
  VOCdevkit/VOC2012/
    ImageSets/Segmentation/val.txt
    JPEGImages/2007_000033.jpg …
    SegmentationClass/2007_000033.png …
"""

    def layout(self) -> tuple[list[Pair], Rule]:
        """The pairs of the split's list."""
        listed = self.part(f"ImageSets/Segmentation/{self.split}.txt")
        images, labels = self.part("JPEGImages"), self.part("SegmentationClass")
        names = read_text(listed).split() if listed.is_file() else []
        return pairs(names, images, labels), RULE

    def fetch(self, root: str | PathLike[str]) -> None:
        """Download VOC 2012 (2 GB) and unpack it; a complete archive that lies there is not fetched again."""
        try:
            VOCSegmentation(root, year="2012", image_set="val", download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"VOC 2012 could not be downloaded ({error}). Fetch VOCtrainval_11-May-2012.tar from "
                f"http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ by other means and unpack it in {root}."
            ) from error


class VOC20(VOC21):
    """VOC 2012 with the background ignored."""

    name = "voc20"
    facts = Facts("VOC20", printed="VOC20")

    def layout(self) -> tuple[list[Pair], Rule]:
        """The same pairs; the background is ignored."""
        expected, rule = super().layout()
        return expected, without_background(rule)
