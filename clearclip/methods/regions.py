"""Regions: a label for every pixel of a picture, at other sizes and on the patches of a grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.methods.trunk import Tokens


def nearest(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (B, H, W) at another size (rows, columns), each that of the pixel where its own begins.

    >>> nearest(torch.arange(16).view(1, 4, 4), (2, 2))
    tensor([[[ 0,  2],
             [ 8, 10]]])
    """
    return F.interpolate(labels[:, None].double(), size=size, mode="nearest")[:, 0].long()


def majority(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """The most frequent label among the pixels of every patch, the lowest of several, (B, H, W) → (B, N).

    >>> majority(torch.tensor([[[3, 3, 7, 1], [5, 3, 1, 7]]]), (1, 2))
    tensor([[3, 1]])
    """
    height, width = labels.shape[1] // grid[0], labels.shape[2] // grid[1]
    patches = labels.unflatten(2, (grid[1], width)).unflatten(1, (grid[0], height))  # (B, rows, height, columns, width)
    return patches.transpose(2, 3).flatten(3).flatten(1, 2).mode(-1).values


def regions_of(tokens: Tokens, grid: tuple[int, int]) -> Tensor:
    """The region of every patch of a grid, (B, rows, columns); one for all where nobody gave any."""
    known = tokens.trunk.regions if tokens.merged is None else tokens.merged
    if known is None:
        return torch.zeros(len(tokens.x), *grid, dtype=torch.int64, device=tokens.x.device)
    return nearest(known, grid)
