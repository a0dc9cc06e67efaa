"""Logits of names at patches → the class of every pixel."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.methods.windows import PatchLogits

TEMPERATURE = 50.0  # what the cosines are multiplied with before the softmax, unless a protocol has another scale
AT_ONCE = {"cpu": 2**17}  # values of full-size maps that are made at a time: a CPU is fastest within its cache, …
AT_ONCE_ELSEWHERE = 2**24  # … an accelerator with fewer, larger steps
VECTOR = 16  # float32 values in the widest register of a CPU


def class_scores(cosines: Tensor, owner: Tensor, classes: int) -> Tensor:
    """Scaled cosines of names (Q, H, W) → class scores (C, H, W): softmax over all names, the best name of each class."""
    scores = cosines.softmax(0)
    if len(scores) == classes:
        return scores
    return torch.stack([scores[owner == i].amax(0) for i in range(classes)])


@torch.inference_mode()
def class_labels(
    logits: PatchLogits, size: tuple[int, int], owner: Tensor, threshold: float = 0.0, scale: float = TEMPERATURE
) -> Tensor:
    """The class of the highest of `class_scores` at every pixel, (H, W) int64, without ever holding them all.

    The softmax does not change which name is highest, so a running maximum over the names' maps, made one after another,
    gives the labels of the plain computation to the last pixel (two scores that only the softmax rounds to one number are
    told apart); its value at the maximum, 1 / Σ exp(s − s_max), which a threshold above 0 is compared with, is summed up
    on the way. Pixels below the threshold become class 0.
    """
    device = logits.windows[0][1].device
    best = torch.full(size, -math.inf, device=device)
    names = torch.zeros(size, dtype=torch.uint8 if len(logits) <= 256 else torch.int16, device=device)
    total = torch.zeros(size, device=device)
    for part in names_in_parts(len(logits), AT_ONCE.get(device.type, AT_ONCE_ELSEWHERE) // math.prod(logits.size)):
        for i, cosines in enumerate(scaled(logits.maps(part), size, scale), part.start):
            names.masked_fill_(cosines > best, i)
            if threshold:
                higher = torch.maximum(best, cosines)
                total.mul_((best - higher).exp_()).add_((cosines - higher).exp_())
                best = higher
            else:
                torch.maximum(best, cosines, out=best)
    labels = owner[names.long()]
    return labels.masked_fill_(total.reciprocal() < threshold, 0) if threshold else labels


def names_in_parts(count: int, about: int) -> list[slice]:
    """The names in parts of about this size, of which every map has the bits that it has when all are made at once.

    PyTorch's bilinear kernels round channels that fill a register otherwise than the rest, and three channels otherwise
    than four; so parts are whole registers, and a short rest joins the part before.

    >>> names_in_parts(35, 1), names_in_parts(36, 1)
    ([slice(0, 16, None), slice(16, 35, None)], [slice(0, 16, None), slice(16, 32, None), slice(32, 36, None)])
    """
    step = max(1, about // VECTOR) * VECTOR
    starts = [start for start in range(0, count, step) if start == 0 or count - start > 3]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], count], strict=True)]


def scaled(maps: Tensor, size: tuple[int, int], scale: float = TEMPERATURE) -> Tensor:
    """Maps (names, H', W') at the picture's own size, times the scale, (names, H, W)."""
    return enlarged(maps, size).mul_(scale)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (names, H', W') at another size, (names, H, W), bilinearly."""
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
