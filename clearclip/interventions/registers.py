"""Test-time registers: extra tokens take what the register neurons write (Jiang et al. 2025, arXiv 2506.08010)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clearclip.errors import UserError
from clearclip.interventions.change import Change, Place, refuse_beyond
from clearclip.models.backbone import Backbone


@dataclass(frozen=True, repr=False)
class Registers(Change):
    """Tokens of zeros before the patches, where each register neuron has its largest activation; at the patches it has none.

    a_register ← max over all tokens of a, a_patch ← 0, for every neuron that is named; CLS keeps its own.

    Args:
        count: how many registers.
        neurons: (layer, neuron) of each register neuron, the layer counted from 1; see `find_register_neurons`.
    """

    count: int
    neurons: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if self.count < 1 or not self.neurons:
            raise UserError(f"{self!r}: at least one register, and at least one neuron that writes to it.")

    @property
    def registers(self) -> int:
        """How many there are."""
        return self.count

    def places(self) -> list[tuple[int, Place]]:
        """The neurons of each layer that is named."""
        return [(layer, "neurons") for layer in sorted({layer for layer, _ in self.neurons})]

    def check(self, model: Backbone) -> None:
        """Refuse layers and neurons that the model does not have."""
        for layer, _ in self.places():
            model.layers([layer])
            count = model.blocks[layer - 1].ffn_writer.module.in_features
            refuse_beyond("neurons", self._of(layer), count, model, layer)

    def _of(self, layer: int) -> tuple[int, ...]:
        return tuple(neuron for there, neuron in self.neurons if there == layer)

    def __call__(self, x: Tensor, layer: int, prefix: int) -> Tensor:
        """The activations, the registers being the last tokens before the patches, (B, L, M)."""
        changed, neurons = x.clone(), list(self._of(layer))
        highest = x[..., neurons].amax(1, keepdim=True)  # (B, 1, neurons)
        changed[:, prefix:, neurons] = 0
        changed[:, prefix - self.count : prefix, neurons] = highest.expand(-1, self.count, -1)
        return changed
