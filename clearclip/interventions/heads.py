"""Attention heads switched off."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clearclip.interventions.change import TO, Change, Place, refuse_beyond, refuse_unknown, replaced
from clearclip.models.backbone import Backbone


@dataclass(frozen=True, repr=False)
class Heads(Change):
    """A·v ← 0, or its mean over the tokens, for some heads of one layer; the output projection's bias stays.

    Args:
        layer: counted from 1.
        heads: counted from 1.
        to: "zero" or "mean".
    """

    layer: int
    heads: tuple[int, ...]
    to: str = "zero"

    def __post_init__(self) -> None:
        refuse_unknown(self, "to", self.to, TO)

    def places(self) -> list[tuple[int, Place]]:
        """The heads of the layer."""
        return [(self.layer, "heads")]

    def check(self, model: Backbone) -> None:
        """Refuse layers and heads that the model does not have."""
        model.layers([self.layer])
        refuse_beyond("heads", self.heads, model.blocks[self.layer - 1].heads, model, self.layer, first=1)

    def __call__(self, x: Tensor, layer: int, prefix: int) -> Tensor:
        """What the heads gather, without these, (B, heads, L, C)."""
        return replaced(x, 1, tuple(head - 1 for head in self.heads), self.to, tokens=2)
