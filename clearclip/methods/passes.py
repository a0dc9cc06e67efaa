"""What the trunk gave for the last pictures, kept so that recipes can be changed without running it again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from clearclip.models.backbone import Backbone, BlockInput


class Passes:
    """Runs a model's trunk over images that it has not seen yet, and remembers the inputs of all blocks of those that it has.

    A `DenseEncoder` or `Segmenter` that is given one applies other recipes, α, β, thresholds or class names to the same
    images without another pass. The numbers are those of a pass of their own, bit for bit. A model whose weights change
    needs a new one.

    Args:
        most: how many batches are kept, each with depth · B · L · D values.

    >>> import clearclip
    >>> model, passes = clearclip.load("clip_tiny", device="cpu"), Passes()
    >>> images = torch.zeros(1, 3, 64, 64)
    >>> first, again = (passes.block_inputs(model, images, [6]) for _ in range(2))
    >>> again[6].x is first[6].x
    True
    """

    def __init__(self, most: int = 2) -> None:
        self._kept: deque[tuple[Backbone, Tensor, dict[int, BlockInput]]] = deque(maxlen=most)

    def block_inputs(
        self, model: Backbone, images: Tensor, layers: Sequence[int] | None = None
    ) -> dict[int, BlockInput]:
        """As `Backbone.block_inputs`, from memory where the model has seen the same images.

        Args:
            model: any; images are remembered for each model by itself.
            images: normalized, (B, 3, H, W).
            layers: counted 1 … depth; by default all.
        """
        numbers = model.layers(layers)
        if model.interventions:  # a view that is made anew for each encoder
            return model.block_inputs(images, numbers)
        for place, entry in enumerate(self._kept):
            kept, seen, inputs = entry
            if kept is model and seen.device == images.device and torch.equal(seen, images):
                del self._kept[place]
                break
        else:
            inputs = model.block_inputs(images)
            entry = model, images.clone(), inputs  # the caller may write into his own
        self._kept.append(entry)  # the one that was not used for longest goes first
        return {layer: inputs[layer] for layer in numbers}


class Fresh(Passes):
    """Keeps nothing, and runs no further than the layers that are asked for."""

    def block_inputs(
        self, model: Backbone, images: Tensor, layers: Sequence[int] | None = None
    ) -> dict[int, BlockInput]:
        """As `Backbone.block_inputs`."""
        return model.block_inputs(images, layers)
