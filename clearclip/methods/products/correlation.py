"""The affinity of a second model's patches within regions (CorrCLIP)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from clearclip.methods.products.product import Product
from clearclip.methods.products.proxy import on_grid
from clearclip.methods.regions import regions_of
from clearclip.methods.trunk import Attended, Guide, Trunk, cosines
from clearclip.models.block import join_heads


@dataclass(frozen=True, repr=False)
class Correlation(Product):
    """softmax(γ·S, other regions → −∞)·v on the second model's grid, S the cosine of q + k of its last block; no prefix.

    The smallest label of a window is no region: its patches and all others listen to each other where S_ij > mean S.
    Without regions that holds for all patches.

    Args:
        gamma: the sharpness.
    """

    gamma: float = 4.0
    elsewhere: ClassVar[bool] = True
    needs_guide: ClassVar[bool] = True
    takes_regions: ClassVar[bool] = True

    def __call__(self, seen: Attended) -> Tensor:
        """A·v, (B, heads, h'w', C)."""
        trunk, guide = seen.tokens.trunk, seen.guide
        similarity = trunk.once("correlation", lambda: cosines(correlated(trunk, guide)))  # (B, h'w', h'w')
        scores = (self.gamma * similarity).masked_fill(~self._allowed(similarity, seen), -math.inf)
        return scores.softmax(-1)[:, None].to(seen.v.dtype) @ on_grid(seen, guide.grid)

    def _allowed(self, similarity: Tensor, seen: Attended) -> Tensor:
        """Which patches listen to which, (B, h'w', h'w'); each to itself at least."""
        regions = regions_of(seen.tokens, seen.guide.grid).flatten(1)
        loose = regions == regions.amin(1, keepdim=True)
        alike = similarity > similarity.mean((1, 2), keepdim=True)
        same = regions[:, :, None] == regions[:, None]
        itself = torch.eye(same.shape[-1], dtype=torch.bool, device=same.device)
        return torch.where(loose[:, :, None] | loose[:, None], alike, same) | itself


def correlated(trunk: Trunk, guide: Guide) -> Tensor:
    """q + k of the second model's last block at its patches, all heads side by side, (B, h'w', D')."""

    def features() -> Tensor:
        q, k, _ = guide.qkv
        return join_heads(q + k)[:, guide.model.prefix_tokens :]

    return trunk.once("q + k", features)
