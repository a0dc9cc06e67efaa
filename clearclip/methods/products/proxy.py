"""The affinity of a second model's patches (ProxyCLIP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from clearclip.methods.products.product import Product
from clearclip.methods.trunk import Attended, above_mean, cosines


@dataclass(frozen=True, repr=False)
class Proxy(Product):
    """softmax(γ(S − β·mean S), < 0 → −∞)·v on the second model's grid, S the cosine of its patch features; no prefix.

    Args:
        beta: the shift.
        gamma: the sharpness.
        together: one mean over all windows of a picture (Trident), instead of one for each window.
    """

    beta: float = 1.2
    gamma: float = 3.0
    together: bool = False
    elsewhere: ClassVar[bool] = True
    needs_guide: ClassVar[bool] = True

    @property
    def looks_around(self) -> bool:
        """As its field says."""
        return self.together

    def __call__(self, seen: Attended) -> Tensor:
        """A·v, (B, heads, h'w', C)."""
        mean = seen.tokens.trunk.mean_similarity if self.together else None
        weights = above_mean(cosines(seen.guide.features), self.gamma, self.beta, mean)  # (B, h'w', h'w')
        return weights[:, None].to(seen.v.dtype) @ on_grid(seen, seen.guide.grid)


def on_grid(seen: Attended, grid: tuple[int, int]) -> Tensor:
    """v of the patches, resized bilinearly to another grid, (B, heads, h'w', C)."""
    v = seen.v[:, :, seen.prefix :]  # (B, heads, hw, C)
    B, heads, _, C = v.shape
    image = v.transpose(2, 3).reshape(B, heads * C, *seen.grid)
    image = F.interpolate(image.float(), size=grid, mode="bilinear", align_corners=False).to(v.dtype)
    return image.reshape(B, heads, C, -1).transpose(2, 3)
