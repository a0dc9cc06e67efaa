"""Cityscapes with its fine labels: 19 classes of street scenes."""

from __future__ import annotations

from typing import ClassVar

from clearclip.datasets.base import Facts
from clearclip.datasets.benchmark import Benchmark
from clearclip.datasets.files import Pair, names_in, pairs
from clearclip.datasets.labels import IGNORE, Rule

EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # label ids of the 19 classes
# 255 is -1, a licence plate, in 8 bits
LABEL_IDS = dict.fromkeys([*range(34), 255], IGNORE) | {raw: cls for cls, raw in enumerate(EVALUATED)}
TRAIN_IDS = {raw: raw for raw in range(19)} | {255: IGNORE}


class Cityscapes(Benchmark):
    """Cityscapes; labels are the gtFine labelIds, or labelTrainIds where only these were made."""

    name = "cityscapes"
    facts = Facts("Cityscapes", half_windows=True, printed="Cityscapes")
    folder = "cityscapes"
    class_file = "cityscapes"
    counts: ClassVar = {"val": (500,), "train": (2975,)}
    tree = """\
  leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png …
  gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png …       (or …_labelTrainIds.png)
"""

    def layout(self) -> tuple[list[Pair], Rule]:
        """Pictures and labels of the same city and frame."""
        images, labels = self.part(f"leftImg8bit/{self.split}"), self.part(f"gtFine/{self.split}")
        picture, ids, train_ids = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
        ending = ids if names_in(labels, ids) or not names_in(labels, train_ids) else train_ids
        names = names_in(images, picture) | names_in(labels, ending)
        return pairs(names, images, labels, picture, ending), LABEL_IDS if ending == ids else TRAIN_IDS
