"""What tables and figures call methods and data sets."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from clearclip.datasets import facts


def dataset_label(name: str) -> str:
    """A data set as a reader knows it, on two lines if it is long.

    >>> dataset_label("coco_stuff"), dataset_label("scenes_background"), dataset_label("mine")
    ('COCO-Stuff', 'scenes with\\nbackground', 'mine')
    """
    title = facts(name).title
    return name if title == name else "\n".join(wrap(title, 12, break_on_hyphens=False))


def mean_label(names: Sequence[str]) -> str:
    """Which data sets were averaged, short enough for an axis; the caption names them all.

    >>> mean_label(["voc20"]), mean_label(["voc20", "ade20k"])
    ('VOC20', 'mean of 2 datasets')
    """
    return dataset_label(names[0]).replace("\n", " ") if len(names) == 1 else f"mean of {len(names)} datasets"
