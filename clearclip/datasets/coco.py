"""COCO 2017 with the COCO-Stuff label maps: 171 classes (COCO-Stuff), or the 80 things on a background (COCO-Object)."""

from __future__ import annotations

from typing import ClassVar

from clearclip.datasets.base import Facts
from clearclip.datasets.benchmark import Benchmark
from clearclip.datasets.files import Pair, names_in, pairs
from clearclip.datasets.labels import IGNORE, Rule

# The label maps hold COCO's category numbers minus 1: things 1 … 90 with gaps, stuff 92 … 182.
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
THINGS = [number - 1 for number in range(1, 91) if number not in GAPS]
STUFF = [number - 1 for number in range(92, 183)]


class COCOStuff(Benchmark):
    """COCO-Stuff: 80 things and 91 kinds of stuff; what is not labelled (255) is ignored."""

    name = "coco_stuff"
    facts = Facts("COCO-Stuff", printed="COCOStuff")
    folder = "coco"
    class_file = "coco_stuff"
    counts: ClassVar = {"val": (5000,), "train": (118287,)}
    tree = """\
  images/val2017/000000000139.jpg …            (or val2017/)
  annotations/val2017/000000000139.png …       (or stuffthingmaps/val2017/)
"""

    def layout(self) -> tuple[list[Pair], Rule]:
        """Pictures and label maps of the same number."""
        year = f"{self.split}2017"
        images = self.part(f"images/{year}", year)
        labels = self.part(f"annotations/{year}", f"stuffthingmaps/{year}")
        names = names_in(images, ".jpg") | names_in(labels, ".png")
        numbers = [name for name in names if name.isdigit()]  # converters leave …_labelTrainIds.png beside them
        return pairs(numbers, images, labels), self.rule()

    def rule(self) -> Rule:
        """Things, then stuff, in the order of their numbers."""
        return {raw: cls for cls, raw in enumerate(THINGS + STUFF)} | {255: IGNORE}


class COCOObject(COCOStuff):
    """COCO-Object, made of the same label maps: all that is not a thing, labelled or not, is background; nothing is ignored."""

    name = "coco_object"
    facts = Facts("COCO-Object", background=True, threshold=0.4, printed="COCOObject")
    class_file = "coco_object"

    def rule(self) -> Rule:
        """Things from 1, all else 0."""
        return dict.fromkeys([*STUFF, 255], 0) | {raw: cls for cls, raw in enumerate(THINGS, 1)}
