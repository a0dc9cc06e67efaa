"""Attention by what attention gave out (RADSeg's self-correlating recursive attention)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.products.product import Product
from clearclip.methods.trunk import Attended, above_mean, cosines


@dataclass(frozen=True, repr=False)
class Recursive(Product):
    """o = Proj(softmax(s·qkᵀ)·v);   softmax(γ·cos(o_i, o_j), < 0 → −∞)·v, the cosine of each head's channels of o.

    Every token takes part, CLS and registers, too. Where a block has a gate or LayerScale, they are a part of Proj.

    Args:
        gamma: the sharpness.
    """

    gamma: float = 10.0

    def __post_init__(self) -> None:
        if self.gamma <= 0:
            raise UserError(f"{self!r}: gamma is above 0.")

    def __call__(self, seen: Attended) -> Tensor:
        """A·v, (B, heads, L, C)."""
        tokens = seen.tokens
        out = tokens.trunk.model.blocks[tokens.layer - 1].output(seen.softmax(seen.q, seen.k), seen.y)  # (B, L, D)
        heads = out.unflatten(2, (seen.v.shape[1], -1)).transpose(1, 2)  # (B, heads, L, C)
        return above_mean(cosines(heads), self.gamma, mean=0.0).to(seen.v.dtype) @ seen.v
