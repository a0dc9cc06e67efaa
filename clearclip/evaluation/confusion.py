"""Pixels by true class and label, counted where the labels are: nothing here waits for the device."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from clearclip.evaluation.protocol import Level
from clearclip.methods.windows import PatchLogits
from clearclip.segmentation.labelling import labels_in_columns


def true_rows(label: np.ndarray, classes: int, ignore_index: int) -> Tensor:
    """The row of a confusion matrix to which each pixel belongs, (W, H) uint8, or int32 for more than 255 classes.

    Args:
        label: true classes, (H, W).
        classes: how many there are; pixels that are ignored get a row behind those of all classes.
        ignore_index: what they are labelled with.

    >>> true_rows(np.array([[0, 1, 255]]), 2, 255).flatten().tolist()
    [0, 1, 2]
    """
    rows = np.where(label == ignore_index, classes, label)
    return torch.from_numpy(np.ascontiguousarray(rows.T, np.uint8 if rows.max(initial=0) < 256 else np.int32))


def no_counts(recipes: int, classes: int, device: torch.device) -> Tensor:
    """Flat confusion matrices with a row for ignored pixels, (recipes, (classes + 1) · classes) int64."""
    return torch.zeros(recipes, (classes + 1) * classes, dtype=torch.int64, device=device)


def count(counts: Tensor, logits: PatchLogits, rows: Tensor, owner: Tensor, level: Level) -> None:
    """Add the pixels of a picture, a few columns at a time.

    Args:
        counts: of one recipe, ((classes + 1) · classes,); it is changed.
        logits: the recipe's.
        rows: the picture's `true_rows`.
        owner: the class of each name.
        level: threshold and scale.
    """
    one = torch.ones(1, dtype=torch.int64, device=counts.device)
    classes = math.isqrt(len(counts))
    for columns, labels in labels_in_columns(logits, (rows.shape[1], rows.shape[0]), owner, *level):
        places = (labels + rows[columns].long() * classes).flatten()
        counts.index_add_(0, places, one.expand(len(places)))


def matrices(counts: Tensor, classes: int) -> Tensor:
    """The confusion matrices without the pixels that are ignored, (…, classes, classes)."""
    return counts.unflatten(-1, (classes + 1, classes))[..., :classes, :]
