"""Attention within the true masks: what a recipe could reach with a perfect affinity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.products.product import Product
from clearclip.methods.regions import majority
from clearclip.methods.trunk import Attended


@dataclass(frozen=True, repr=False)
class Oracle(Product):
    """softmax(s·u·wᵀ, patches of other true labels → −∞)·v: an upper bound, where there are true labels.

    A patch has the label of most of its pixels, and unlabeled pixels are one more label. No patch listens to CLS.

    Args:
        pair: the product of q, k and v, such as "qq", "kk" or "qk".
    """

    pair: str = "qq"
    needs_truth: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.pair) != 2 or not set(self.pair) <= set("qkv"):
            raise UserError(f"{self!r}: a pair of q, k and v, such as qq.")

    def __call__(self, seen: Attended) -> Tensor:
        """A·v, (B, heads, L, C)."""
        truth = seen.tokens.trunk.truth
        if truth is None:
            raise UserError(
                f"{self} has to be told the true label of every pixel: DenseEncoder.encode(…, truth=labels)."
            )
        labels = majority(truth, seen.grid)
        same = labels[:, :, None] == labels[:, None]  # (B, N, N)
        allowed = F.pad(same, (seen.prefix, 0, seen.prefix, 0))
        allowed[:, : seen.prefix] = True
        return seen.softmax(*seen.pair(self.pair), bias=allowed[:, None])
