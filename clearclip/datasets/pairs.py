"""Anybody's torch Dataset of pictures and label maps, as a data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from clearclip.datasets.base import Sample
from clearclip.datasets.labels import IGNORE, BadLabel
from clearclip.pixels import as_picture


class Pairs:
    """A Dataset of (picture, label map) pairs, such as torchvision's, as `LabelledPictures`.

    Args:
        pairs: has a length, gives (picture, (H, W) class indices) for an index, and lists its `classes`. It may have a
            `name`, an `ignore_index` (255 if not), and an `identity` that changes when its pictures do. Without one, a run that
            continues reads the pictures that it has counted again, to compare them.
    """

    def __init__(self, pairs: Any) -> None:
        self.pairs, self.classes = pairs, list(map(str, pairs.classes))
        self.name: str = getattr(pairs, "name", type(pairs).__name__)
        self.ignore_index: int = getattr(pairs, "ignore_index", IGNORE)

    @property
    def identity(self) -> str:
        """What the pairs say about themselves; empty if they say nothing."""
        return getattr(self.pairs, "identity", "")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image, label = self.pairs[index][:2]
        picture, labels = as_picture(image), np.asarray(label).squeeze()
        name = f"{self.name} {index}"
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (picture.height, picture.width):
            raise BadLabel(
                f"{name}: a label map has a class index for each of the {picture.height} × {picture.width} pixels; "
                f"this label is of {labels.dtype}, {labels.shape or 'one number'}"
            )
        unknown = set(np.unique(labels).tolist()) - {self.ignore_index, *range(len(self.classes))}
        if unknown:
            raise BadLabel(
                f"{name}: labels {sorted(unknown)[:8]} are neither of {len(self.classes)} classes nor ignored"
            )
        return Sample(picture, labels, name)
