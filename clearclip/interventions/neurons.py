"""Neurons of an FFN switched off."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clearclip.interventions.change import TO, Change, Place, refuse_beyond, refuse_unknown, replaced
from clearclip.models.backbone import Backbone


@dataclass(frozen=True, repr=False)
class Neurons(Change):
    """The activation of some neurons of one layer's FFN ← 0, or its mean over the tokens.

    Args:
        layer: counted from 1.
        neurons: counted from 0, as the FFN's last linear module takes them.
        to: "zero" or "mean".
    """

    layer: int
    neurons: tuple[int, ...]
    to: str = "zero"

    def __post_init__(self) -> None:
        refuse_unknown(self, "to", self.to, TO)

    def places(self) -> list[tuple[int, Place]]:
        """The neurons of the layer."""
        return [(self.layer, "neurons")]

    def check(self, model: Backbone) -> None:
        """Refuse layers and neurons that the model does not have."""
        model.layers([self.layer])
        count = model.blocks[self.layer - 1].ffn_writer.module.in_features
        refuse_beyond("neurons", self.neurons, count, model, self.layer)

    def __call__(self, x: Tensor, layer: int, prefix: int) -> Tensor:
        """The activations without these, (B, L, M)."""
        return replaced(x, -1, self.neurons, self.to, tokens=-2)
