"""Affinities of middle blocks, borrowed by the last one (ResCLIP, ITACLIP)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.products.product import Product, pairs_of
from clearclip.methods.trunk import Attended, scaled, summed


@dataclass(frozen=True, repr=False)
class Middle(Product):
    """mean over blocks b of Σ softmax(s·u_b·w_bᵀ)·v, for pairs u, w of q, k and v.

    Args:
        blocks: which blocks of a 12-block model, counted from 1; in another one as far up.
        pairs: which products of q and k each of them adds, "qk" or "qq kk".

    >>> Middle(pairs="qq kk")
    Middle(pairs='qq kk')
    """

    blocks: tuple[int, ...] = (6, 7, 8, 9)
    pairs: str = "qk"

    def __post_init__(self) -> None:
        pairs_of(self.pairs)
        if not self.blocks:
            raise UserError(f"{self!r}: at least one block.")

    def layers(self, depth: int) -> list[int]:
        """The blocks that it borrows from."""
        return sorted({scaled(block, depth) for block in self.blocks})

    def __call__(self, seen: Attended) -> Tensor:
        """A·v, (B, heads, L, C)."""
        trunk = seen.tokens.trunk
        left_out = trunk.prefix - seen.prefix
        values = []
        for layer in self.layers(trunk.model.depth):
            block = trunk.attended(layer)
            pairs = [block.pair(names) for names in pairs_of(self.pairs)]
            values.append(summed([seen.softmax(a[:, :, left_out:], b[:, :, left_out:]) for a, b in pairs]))
        return torch.stack(values).mean(0)
