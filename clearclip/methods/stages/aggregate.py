"""Patches averaged over the patches that resemble them in a middle block (SC-CLIP, SFP)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clearclip.methods.stages.stage import After, Before, Stage
from clearclip.methods.trunk import Tokens, after

EPSILON = 1e-6  # added to the sum of every row


@dataclass(frozen=True, repr=False)
class _Averaging(Stage):
    """Averages patches over those that resemble them after a block."""

    layer: int = 9
    cut: float = 0.4

    def layers(self, depth: int) -> list[int]:
        """The block whose output is compared, by the input of the next."""
        return [after(self.layer, depth) + 1]

    def averaged(self, x: Tensor, tokens: Tokens) -> Tensor:
        """rownorm(S·[S ≥ θ])·x, (B, N, D)."""
        similarity = tokens.similarity(after(self.layer, tokens.trunk.model.depth))
        weights = torch.where(similarity < self.cut, 0, similarity)
        return (weights / (weights.sum(-1, keepdim=True) + EPSILON)).to(x.dtype) @ x


@dataclass(frozen=True, repr=False)
class Aggregate(_Averaging, Before):
    """x ← rownorm(S·[S ≥ θ])·x at the patches before the last block, S their cosine after a block.

    Args:
        layer: after which block of a 12-block model, counted from 1.
        cut: θ; cosines below it do not count.
    """

    def __call__(self, tokens: Tokens) -> Tokens:
        """The tokens with averaged patches."""
        return tokens.change(self.averaged(tokens.own, tokens))


@dataclass(frozen=True, repr=False)
class AggregateAfter(_Averaging, After):
    """The same for what the last block gives out, and for what is added beside it.

    Args:
        layer: after which block of a 12-block model, counted from 1.
        cut: θ; cosines below it do not count.
    """

    layer: int = 4

    def __call__(self, x: Tensor, cls: Tensor, tokens: Tokens) -> Tensor:
        """Averaged patches, (B, N, D)."""
        return self.averaged(x, tokens)
