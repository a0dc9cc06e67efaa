"""Channels of a feature map at zero, or at their mean."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clearclip.interventions.change import TO, Change, Place, refuse_beyond, refuse_unknown, replaced
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES


@dataclass(frozen=True, repr=False)
class Channels(Change):
    """x[:, c] ← 0, or its mean over the tokens, for some channels c of X_res, X_attn or X_sum of one layer.

    What is changed in X_res or X_sum goes on in the stream, so that X_res + X_attn = X_sum still holds.

    Args:
        layer: counted from 1.
        channels: counted from 0.
        site: X_res, X_attn or X_sum.
        to: "zero" or "mean".

    >>> import torch
    >>> Channels(9, (0, 2))(torch.ones(1, 2, 4), 9, 0)[0, 0]
    tensor([0., 1., 0., 1.])
    """

    layer: int
    channels: tuple[int, ...]
    site: str = "X_res"
    to: str = "zero"

    def __post_init__(self) -> None:
        refuse_unknown(self, "site", self.site, FEATURES)
        refuse_unknown(self, "to", self.to, TO)

    def places(self) -> list[tuple[int, Place]]:
        """The site of the layer."""
        return [(self.layer, self.site)]  # type: ignore[list-item]  # as the check above knows

    def check(self, model: Backbone) -> None:
        """Refuse layers and channels that the model does not have."""
        model.layers([self.layer])
        refuse_beyond("channels", self.channels, model.width, model, self.layer)

    def __call__(self, x: Tensor, layer: int, prefix: int) -> Tensor:
        """The map with its channels replaced, (B, L, D)."""
        return replaced(x, -1, self.channels, self.to, tokens=-2)
