"""The affinity of the model's own patches after a middle block (SC-CLIP, SFP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from clearclip.methods.products.product import Product
from clearclip.methods.trunk import Attended, above_mean, after


@dataclass(frozen=True, repr=False)
class Similarity(Product):
    """softmax(γ(S − mean S), < 0 → −∞)·v, S the cosine of the patches after a block, entries below a cut set to 0 first.

    Args:
        layer: after which block of a 12-block model, counted from 1.
        gamma: the sharpness.
        cut: cosines below it count as 0; None keeps them.
    """

    layer: int = 9
    gamma: float = 3.0
    cut: float | None = None
    patches_only: ClassVar[bool] = True

    def layers(self, depth: int) -> list[int]:
        """The block whose output is compared, by the input of the next."""
        return [after(self.layer, depth) + 1]

    def __call__(self, seen: Attended) -> Tensor:
        """A·v, (B, heads, N, C)."""
        similarity = seen.tokens.similarity(after(self.layer, seen.tokens.trunk.model.depth))
        if self.cut is not None:
            similarity = torch.where(similarity < self.cut, 0, similarity)
        return above_mean(similarity, self.gamma)[:, None].to(seen.v.dtype) @ seen.v[:, :, seen.prefix :]
