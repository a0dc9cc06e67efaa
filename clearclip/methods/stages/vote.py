"""One class for every region (CorrCLIP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from clearclip.methods.stages.stage import Labeling


@dataclass(frozen=True, repr=False)
class Vote(Labeling):
    """All pixels of a region get the class of most of them, the lowest of several; the smallest label is no region.

    >>> Vote()(np.array([[3, 1, 1], [3, 3, 2]]), np.array([[0, 1, 1], [0, 1, 1]]))
    array([[3, 1, 1],
           [3, 1, 1]])
    """

    takes_regions: ClassVar[bool] = True

    def __call__(self, labels: NDArray[np.integer], regions: NDArray[np.integer] | None) -> NDArray[np.integer]:
        """Other labels, (H, W)."""
        if regions is None:
            return labels
        known, index = np.unique(regions, return_inverse=True)
        index, classes = index.reshape(labels.shape), int(labels.max()) + 1
        votes = np.bincount(index.ravel() * classes + labels.ravel(), minlength=len(known) * classes)
        winners = votes.reshape(len(known), classes).argmax(1).astype(labels.dtype)
        return np.where(index == 0, labels, winners[index])
