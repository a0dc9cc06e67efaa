"""Outlier tokens brought down to size."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clearclip.errors import UserError
from clearclip.interventions.change import Change, Place
from clearclip.models.backbone import Backbone


@dataclass(frozen=True, repr=False)
class Clamp(Change):
    """x_i ← x_i · min(1, times · m / |x_i|), m the median length of the picture's patches, for every token of X_res of a layer.

    Args:
        layer: counted from 1.
        times: how many times as long as the median a token may be.

    >>> import torch
    >>> Clamp(9, times=2.0)(torch.tensor([[[1.0], [1.0], [1.0], [50.0]]]), 9, 0).flatten()
    tensor([1., 1., 1., 2.])
    """

    layer: int
    times: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.times < float("inf"):
            raise UserError(f"{self!r}: a token may be some times as long as the median, as in times=3.")

    def places(self) -> list[tuple[int, Place]]:
        """The input of the layer."""
        return [(self.layer, "X_res")]

    def check(self, model: Backbone) -> None:
        """Refuse a layer that the model does not have."""
        model.layers([self.layer])

    def __call__(self, x: Tensor, layer: int, prefix: int) -> Tensor:
        """The tokens, none of them longer than allowed, (B, L, D)."""
        lengths = x.float().norm(dim=-1, keepdim=True)  # (B, L, 1)
        limit = self.times * lengths[:, prefix:].median(1, keepdim=True).values
        return x * (limit / lengths.clamp(min=1e-12)).clamp(max=1).to(x.dtype)
