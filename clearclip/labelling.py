"""Logits of names at patches → the class of every pixel."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.windows import PatchLogits

TEMPERATURE = 50.0  # what the cosines are multiplied with before the softmax
AT_ONCE = 2**24  # values of maps at full size that an accelerator holds at a time; a CPU is fastest within its cache


def class_scores(logits: Tensor, size: tuple[int, int], owner: Tensor, classes: int) -> Tensor:
    """Cosines (Q, H', W') → class scores (C, H, W): resized bilinearly, ×50, softmax over all names, the best of each class."""
    scores = _scaled(logits, size).softmax(0)
    if len(scores) == classes:
        return scores
    return torch.stack([scores[owner == i].amax(0) for i in range(classes)])


@torch.inference_mode()
def class_labels(logits: PatchLogits, size: tuple[int, int], owner: Tensor, threshold: float = 0.0) -> Tensor:
    """The class of the highest of `class_scores` at every pixel, (H, W) int64, without ever holding them all.

    The softmax does not change which name is highest, so a running maximum over the names' maps, made one after another,
    gives the labels of the plain computation to the last pixel; its value at the maximum, 1 / Σ exp(s − s_max), which
    a threshold above 0 is compared with, is summed up on the way. Pixels below the threshold become class 0.
    """
    device = logits.windows[0][1].device
    best = torch.full(size, -math.inf, device=device)
    names = torch.zeros(size, dtype=torch.uint8 if len(logits) <= 256 else torch.int16, device=device)
    total = torch.zeros(size, device=device)
    at_once = 1 if device.type == "cpu" else max(1, AT_ONCE // math.prod(logits.size))
    for start in range(0, len(logits), at_once):
        for i, one in enumerate(_scaled(logits.maps(slice(start, start + at_once)), size), start):
            names.masked_fill_(one > best, i)
            if threshold:
                higher = torch.maximum(best, one)
                total.mul_((best - higher).exp_()).add_((one - higher).exp_())
                best = higher
            else:
                torch.maximum(best, one, out=best)
    labels = owner[names.long()]
    return labels.masked_fill_(total.reciprocal() < threshold, 0) if threshold else labels


def _scaled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (names, H', W') at the picture's own size, times the temperature, (names, H, W)."""
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0].mul_(TEMPERATURE)
