"""Logits of names at patches → the class of every pixel."""

from collections.abc import Iterator

import torch
from torch import Tensor

from clearclip.methods.windows import PatchLogits

TEMPERATURE = 50.0  # what the cosines are multiplied with before the softmax, unless a protocol has another scale


def class_scores(cosines: Tensor, owner: Tensor, classes: int) -> Tensor:
    """Scaled cosines of names (…, Q) → class scores (…, C): softmax over all names, the best name of each class."""
    scores = cosines.softmax(-1)
    if scores.shape[-1] == classes:
        return scores
    return torch.stack([scores[..., owner == i].amax(-1) for i in range(classes)], -1)


@torch.inference_mode()
def class_labels(
    logits: PatchLogits, size: tuple[int, int], owner: Tensor, threshold: float = 0.0, scale: float = TEMPERATURE
) -> Tensor:
    """The class of the highest of `class_scores` at every pixel, (H, W) int64, without ever holding them all."""
    parts = [labels for _, labels in labels_in_columns(logits, size, owner, threshold, scale)]
    return torch.cat(parts).T.contiguous()


@torch.inference_mode()
def labels_in_columns(
    logits: PatchLogits, size: tuple[int, int], owner: Tensor, threshold: float = 0.0, scale: float = TEMPERATURE
) -> Iterator[tuple[slice, Tensor]]:
    """As `class_labels`, columns of the picture from left to right, and their labels (columns, H) int64.

    The softmax does not change which name is highest, so the highest cosine decides (two scores that only the softmax rounds to
    one number are told apart). Pixels whose score is below the threshold become class 0.
    """
    for columns, cosines in logits.pixels(size):
        labels = owner[highest(cosines)]
        yield columns, labels.masked_fill_(best_score(cosines, scale) < threshold, 0) if threshold else labels


def best_score(cosines: Tensor, scale: float = TEMPERATURE) -> Tensor:
    """The highest of `class_scores`, 1 / Σ exp(s − s_max), (…, Q) → (…)."""
    return (cosines - cosines.amax(-1, keepdim=True)).mul_(scale).exp_().sum(-1).reciprocal_()


def highest(scores: Tensor) -> Tensor:
    """The place of the highest score, the first of equal ones, (…, Q) → (…) int64."""
    if scores.device.type == "cpu":  # NumPy looks at many at once, PyTorch does not
        return torch.from_numpy(scores.numpy().argmax(-1))
    return scores.argmax(-1)
