"""Patches of all windows of a picture → one map of the whole picture → its logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.methods.enlargement import middles
from clearclip.methods.stages.stage import Picture
from clearclip.methods.windows import PatchLogits

AT_ONCE = 2**22  # similarities between patches that are held at a time


def spliced(logits: PatchLogits, maps: Sequence[Tensor]) -> Tensor:
    """Maps of all windows as one map of the picture, the mean where windows overlap, (K, rows, columns).

    The picture is divided into as many equal cells as patches fit, rounded. A cell takes what each window has at its center:
    the patch itself where windows lie on the cells, else (a window at the border, a picture of any size) bilinearly between
    the patches.

    Args:
        logits: where the windows and their patches lie.
        maps: one for each window, on the patches of its logits, (K, rows, columns).
    """
    device, rows, columns = maps[0].device, *maps[0].shape[1:]
    top, left, bottom, right = logits.padded(logits.windows[0][0])
    height, width = logits.size
    grid = max(1, round(height * rows / (bottom - top))), max(1, round(width * columns / (right - left)))
    cells = middles(grid[0], 0, height, device), middles(grid[1], 0, width, device)
    total, count = maps[0].new_zeros(len(maps[0]), *grid), maps[0].new_zeros(grid)
    for i, ((box, _), values) in enumerate(zip(logits.windows, maps, strict=True)):
        y, x = logits.centers(i)
        down, across = _between(cells[0], y, box[0], box[2]), _between(cells[1], x, box[1], box[3])
        total += down @ values @ across.T
        count += down.sum(1)[:, None] * across.sum(1)
    return total / count


def _between(cells: Tensor, patches: Tensor, start: int, end: int) -> Tensor:
    """Linear interpolation from the centers of patches to those of cells, (cells, patches); 0 for cells beyond the window."""
    step = patches[1] - patches[0] if len(patches) > 1 else 1
    place = ((cells - patches[0]) / step).clamp(0, len(patches) - 1)
    weights = (1 - (place[:, None] - torch.arange(len(patches), device=cells.device)).abs()).clamp(min=0)
    return weights * ((cells >= start) & (cells < end))[:, None]


def listened(unit: Tensor, x: Tensor, gamma: float, level: float) -> Tensor:
    """softmax(γ(S − level), entries < 0 → −∞)·x, where S is the cosine of patches and a patch always listens to itself.

    S is never held as a whole.

    Args:
        unit: what patches are compared by, at length 1, (N, D).
        x: (N, C).
        gamma: the sharpness.
        level: cosines below it do not count.
    """
    numbers, parts = torch.arange(len(unit), device=unit.device), []
    for own in numbers.split(max(1, AT_ONCE // len(unit))):
        scores = gamma * (unit[own] @ unit.T - level)  # (n, N)
        scores.masked_fill_((scores < 0) & (own[:, None] != numbers), -math.inf)
        parts.append(scores.softmax(1) @ x)
    return torch.cat(parts)


def scored(x: Tensor, picture: Picture, logits: PatchLogits) -> PatchLogits:
    """The logits of a whole picture from its patches after the final norm, (D, rows, columns)."""
    with picture.model.autocast():
        features = picture.model.project(x.flatten(1).T[None].to(picture.model.dtype))
    features = F.normalize(features[0].float(), dim=1)  # (N, E)
    scores = (picture.texts @ features.T).unflatten(1, x.shape[1:])  # (Q, rows, columns)
    return replace(logits, windows=[((0, 0, *logits.size), scores)], patch=1, kept=None)
