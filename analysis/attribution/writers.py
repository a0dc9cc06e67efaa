"""Who wrote one value of a feature map: the exact sum of what embedding, heads, neurons and biases have added to it.

x[token, channel] = embedding + Σ over layers (Σ heads W[channel, h]·(A·v)_h + Σ neurons w[channel, n]·a_n + biases), with W and w
behind LayerScale where a model has one. Only one token and one channel are looked at, so next to nothing is kept.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.models.backbone import Backbone, BlockInput
from clearclip.models.block import OUTPUT

COMPONENTS = ("embedding", "attention", "ffn", "bias", "intervention")


@dataclass
class Written:
    """What each part has added to one value; a part that comes behind the map has added 0.

    Args:
        value: as it stands in the map, ().
        embedding: what enters the first block, ().
        heads: of each layer and head, (L, heads).
        biases: of output projection and FFN of each layer, (L,).
        interventions: what an intervention has put in between a layer's input and the next, (L,); 0 without any.
        activations: of each layer's neurons at the token, (L, M).
        weights: from each neuron to the channel, LayerScale included, (L, M).
    """

    value: Tensor
    embedding: Tensor
    heads: Tensor
    biases: Tensor
    interventions: Tensor
    activations: Tensor
    weights: Tensor

    @property
    def neurons(self) -> Tensor:
        """What each neuron has added, (L, M)."""
        return self.activations * self.weights

    @property
    def components(self) -> Tensor:
        """What each of `COMPONENTS` has added in each layer, (L, 5); the embedding stands in the first."""
        embedding = torch.zeros_like(self.biases)
        embedding[0] = self.embedding
        parts = (embedding, self.heads.sum(1), self.neurons.sum(1), self.biases, self.interventions)
        return torch.stack(parts, 1)


@torch.inference_mode()
def written(model: Backbone, image: Tensor, layer: int, feature: str, token: int, channel: int) -> Written:
    """Take one value of a feature map apart, in one pass.

    Args:
        model: any.
        image: normalized, (3, H, W).
        layer: of the map, counted from 1.
        feature: X_res, X_attn, X_sum, or X_out, which the block hands on.
        token: counted from 0, prefix tokens included.
        channel: counted from 0.

    Raises:
        UserError: the model does not have the layer.

    >>> import clearclip, torch
    >>> model = clearclip.load("dino_tiny", device="cpu")
    >>> parts = written(model, torch.zeros(3, 64, 64), layer=6, feature="X_res", token=0, channel=5)
    >>> bool(torch.isclose(parts.components.sum(), parts.value, rtol=1e-4)), len(parts.components), len(parts.heads)
    (True, 6, 6)
    """
    model.layers([layer])
    ledger = _Ledger(model, token, channel)
    whole = feature != "X_attn"  # of which nothing was written in earlier blocks
    inputs: list[BlockInput] = []

    def see(number: int, given: BlockInput) -> None:
        inputs[:] = [given]
        if whole:
            ledger.balance(number - 1, given.x)
        if whole and number < layer:
            ledger.attention(number, given)
            ledger.biases(number, ffn=True)

    with ExitStack() as stack:
        for number in range(1, layer) if whole else ():
            stack.enter_context(ledger.watching(number))
        model.run_until(image[None], range(1, layer + 1), see)
    if feature != "X_res":
        with model.autocast():
            ledger.balance(layer, _block(model, layer, feature, inputs[0], ledger))
    return ledger.parts


def _block(model: Backbone, layer: int, feature: str, given: BlockInput, ledger: _Ledger) -> Tensor:
    """Enter what a block has added before a map of its own, and give the map, (1, L, D)."""
    block = model.blocks[layer - 1]
    x_attn = ledger.attention(layer, given)
    ledger.biases(layer, ffn=feature == OUTPUT)
    if feature == "X_attn":
        return x_attn
    if feature == "X_sum":
        return block.summed(given.x + x_attn)
    with ledger.watching(layer):
        return block.forward(given.x, given.rope)


class _Ledger:
    """`Written`, entered layer by layer."""

    def __init__(self, model: Backbone, token: int, channel: int) -> None:
        self.model, self.token, self.channel = model, token, channel
        self.dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
        direction = torch.zeros(model.width, 1, device=model.device, dtype=self.dtype)
        direction[channel] = 1
        weights = torch.stack([block.ffn_writer.toward(direction)[:, 0] for block in model.blocks])
        self.direction, nothing = direction, direction.new_zeros
        self.parts = Written(
            value=nothing(()),
            embedding=nothing(()),
            heads=nothing(model.depth, model.heads),
            biases=nothing(model.depth),
            interventions=nothing(model.depth),
            activations=torch.zeros_like(weights),
            weights=weights,
        )

    def attention(self, layer: int, given: BlockInput) -> Tensor:
        """Enter the heads of a block, and give its X_attn, (1, L, D)."""
        block = self.model.blocks[layer - 1]
        y = block.norm1(given.x)
        values = F.scaled_dot_product_attention(*block.qkv(y, given.rope))  # (1, heads, L, C)
        gathered = block.gathered(values, y)[0, self.token].to(self.dtype)  # (heads · C,)
        with torch.autocast(gathered.device.type, enabled=False):  # parts would not add up in half precision
            added = gathered * block.attention_writer.toward(self.direction)[:, 0]
        self.parts.heads[layer - 1] = added.unflatten(0, (block.heads, -1)).sum(1)
        return block.output(values, y)

    def biases(self, layer: int, ffn: bool) -> None:
        """Enter the biases of a block's output projection and, on demand, of its FFN."""
        block = self.model.blocks[layer - 1]
        writers = [block.attention_writer, *([block.ffn_writer] if ffn else [])]
        self.parts.biases[layer - 1] = sum(writer.bias_toward(self.direction)[0] for writer in writers)

    def watching(self, layer: int) -> AbstractContextManager[None]:
        """A context in which the neurons of a block are entered when it runs."""

        def see(given: Tensor) -> None:
            self.parts.activations[layer - 1] = given[0, self.token].to(self.dtype)

        return self.model.blocks[layer - 1].ffn_writer.watched(see)

    def balance(self, layer: int, x: Tensor) -> None:
        """Look at the map behind a layer, 0 being the embedding; what nobody has written an intervention has put there."""
        self.parts.value = x[0, self.token, self.channel].to(self.dtype)
        if not layer:
            self.parts.embedding = self.parts.value
        elif self.model.interventions:
            self.parts.interventions[layer - 1] = self.parts.value - self.parts.components.sum()
