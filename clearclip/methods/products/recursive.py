"""Attention by what attention gave out (RADSeg's self-correlating recursive attention)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.products.product import Product
from clearclip.methods.trunk import Attended


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
        heads = F.normalize(out.float().unflatten(2, (seen.v.shape[1], -1)).transpose(1, 2), dim=-1)
        with torch.autocast(heads.device.type, enabled=False):  # or autocast would undo the float()
            cosine = heads @ heads.mT  # (B, heads, L, L)
        weights = (self.gamma * cosine).masked_fill(cosine < 0, -math.inf).softmax(-1)
        return weights.to(seen.v.dtype) @ seen.v
