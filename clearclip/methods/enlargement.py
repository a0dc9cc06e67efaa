"""How the patches of a picture's windows become its pixels, along one side of the picture.

Three steps follow each other: the patches of a window are enlarged to its pixels, pixels of several windows get the mean of them,
and the picture is resized from the windows' size to its own. All three are linear and treat rows and columns apart, so
together they are one matrix for the rows and one for the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CPU = torch.device("cpu")


class Stretch(NamedTuple):
    """Where a window lies along one side of the resized picture, in pixels, and how many patches it has there."""

    start: int
    end: int
    patches: int


@dataclass(frozen=True)
class Enlargement:
    """What the patches of all windows along a side contribute to its pixels.

    Args:
        weights: (pixels, patches), patches in the order of `order`; the weights of a pixel add up to 1.
        order: patches of all windows, one window after another, sorted by where their centers lie.
        first: the first patch that has a weight, of every pixel.
        last: the one behind the last.
    """

    weights: Tensor
    order: Tensor
    first: tuple[int, ...]
    last: tuple[int, ...]

    def patches(self, pixels: slice) -> slice:
        """The patches that some pixels are made of."""
        return slice(min(self.first[pixels]), max(self.last[pixels]))


@lru_cache(maxsize=256)  # pictures of one size share it, and it is copied to the device once
@torch.inference_mode(False)
def enlargement(
    windows: tuple[Stretch, ...], side: int, patch: int, size: int, device: torch.device = CPU
) -> Enlargement:
    """The steps along one side as one matrix, found by what they make of each patch alone.

    Args:
        windows: along this side, each once.
        side: of the resized picture, in pixels.
        patch: side of a patch; a window that is not a multiple of it was padded on both sides.
        size: of the picture itself along this side, in pixels.
        device: where the patches are.

    >>> enlargement((Stretch(0, 2, 2), Stretch(1, 3, 2)), side=3, patch=1, size=3).weights
    tensor([[1.0000, 0.0000, 0.0000, 0.0000],
            [0.0000, 0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.0000, 1.0000]])
    """
    parts, centers, counts = [], [], torch.zeros(side)
    for start, end, patches in windows:
        before, after = padding(end - start, patch)
        padded = before + end - start + after
        values = F.interpolate(torch.eye(patches)[None], size=padded, mode="linear", align_corners=False)[0]
        parts.append(F.pad(values[:, before : padded - after], (start, side - end)))  # (patches, side)
        centers.append(middles(patches, start - before, end + after))
        counts[start:end] += 1
    order = torch.cat(centers).argsort(stable=True)
    mean = torch.cat(parts)[order] / counts
    weights = F.interpolate(mean[None], size=size, mode="linear", align_corners=False)[0].T.contiguous()
    used = weights != 0
    first = used.int().argmax(1)
    last = len(order) - used.flip(1).int().argmax(1)
    return Enlargement(weights.to(device), order.to(device), tuple(first.tolist()), tuple(last.tolist()))


def padding(side: int, patch: int) -> tuple[int, int]:
    """Zeros before and after a side that make it a multiple of the patch."""
    missing = -side % patch
    return missing // 2, missing - missing // 2


def middles(count: int, start: int, end: int, device: torch.device | None = None) -> Tensor:
    """The middles of so many equal parts of a stretch, (count,)."""
    return (torch.arange(count, device=device) + 0.5) * ((end - start) / count) + start
