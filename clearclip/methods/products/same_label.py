"""Patches of one label listen to one another: the second pass of ResCLIP, which knows what the first one saw (SFR)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.products.gaussian import gaussian
from clearclip.methods.products.product import Product, pairs_of
from clearclip.methods.trunk import Attended, summed

BLUR = 5.0  # σ, in places of a row of patches …
REACH = 31  # … of which so many are looked at


@dataclass(frozen=True, repr=False)
class SameLabel(Product):
    """Σ over pairs u, w of softmax(τ((1 − λ)·s·u·wᵀ + λ·B) + G)·v; B is 0 for prefix tokens, G is NACLIP's Gaussian.

    B from the labels of `FirstPass`: 1 between patches of one label, exp(−d_∞ / max d_∞) where the way between them leaves it;
    rows blurred and divided by their sum, and all by the largest value.

    Args:
        temperature: τ.
        weight: λ.
        pairs: which products of q, k and v, "kk" or "qq kk".
        near: whether G is added.
    """

    temperature: float = 2.2
    weight: float = 0.7
    pairs: str = "kk"
    near: bool = True

    def __post_init__(self) -> None:
        pairs_of(self.pairs)
        if self.temperature <= 0 or not 0 <= self.weight <= 1:
            raise UserError(f"{self!r}: the temperature is above 0, and the weight lies between 0 and 1.")

    def __call__(self, seen: Attended) -> Tensor:
        """A·v, (B, heads, L, C)."""
        labels = seen.tokens.labels
        if labels is None:
            raise UserError(f"{self!r} needs to know each patch's label, so the recipe needs the stage FirstPass().")
        alike = F.pad(blurred(same_label(labels, seen.grid)), (seen.prefix, 0, seen.prefix, 0))  # (B, L, L)
        bias = self.temperature * self.weight * alike
        if self.near:
            bias = bias + gaussian(seen.grid, seen.prefix).to(bias)
        scale = self.temperature * (1 - self.weight) * seen.q.shape[-1] ** -0.5
        bias = bias[:, None].to(seen.v.dtype)  # (B, 1, L, L)
        return summed([seen.softmax(*seen.pair(names), bias, scale) for names in pairs_of(self.pairs)])


def same_label(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """1 between patches of one label, less where the way between them leaves it, and 0 between others, (B, N, N) float32.

    Of the way, the points at k / D are looked at, for k = 0 … d; d is the larger of the distances in rows and in columns, and D
    the largest d of the grid. So only a way across the whole picture is looked at to its end, and a short one hardly leaves its
    start, as in ResCLIP's published code.

    Args:
        labels: of the patches, (B, N).
        grid: rows and columns of patches.

    >>> same_label(torch.tensor([[0, 1, 0]]), (1, 3))[0, 0]
    tensor([1.0000, 0.0000, 0.3679])
    """
    rows, columns = grid
    sides = [torch.arange(side, device=labels.device) for side in grid]
    places = torch.cartesian_prod(*sides)  # (N, 2)
    start, end = places[:, None], places[None]
    distance = (start - end).abs().amax(-1)  # (N, N)
    farthest = max(rows - 1, columns - 1, 1)
    inside = torch.ones(len(labels), *distance.shape, dtype=torch.bool, device=labels.device)
    for step in range(farthest + 1):
        # a quotient of whole numbers, so that halves are halves, and are rounded to even
        row, column = (
            ((side[:, None] * (farthest - step) + side * step) / farthest).round().long() for side in sides
        )  # (rows, rows), (columns, columns)
        point = (row[:, None, :, None] * columns + column[None, :, None, :]).reshape(distance.shape)  # (N, N)
        there = labels[:, point]  # (B, N, N)
        inside &= (there == labels[:, :, None]) | (step > distance)
    same = labels[:, :, None] == labels[:, None]
    return same * torch.where(inside, 1.0, torch.exp(-distance / farthest))


def blurred(matrix: Tensor) -> Tensor:
    """Rows (B, N, N) blurred over the patches' numbers, beyond the ends of the picture's rows, and scaled to at most 1."""
    B, N, _ = matrix.shape
    size = min(N, REACH) // 2 * 2 + 1  # odd
    places = torch.arange(size, device=matrix.device) - size // 2
    kernel = torch.exp(-places.square() / (2 * BLUR**2))
    rows = matrix.float().reshape(B * N, 1, N)
    with torch.autocast(rows.device.type, enabled=False):
        rows = F.conv1d(rows, (kernel / kernel.sum())[None, None], padding=size // 2).reshape(B, N, N)
    rows = rows / (rows.sum(2, keepdim=True) + 1e-8)
    return rows / rows.amax((1, 2), keepdim=True)
