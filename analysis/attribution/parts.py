"""One pass → what every component adds to the cosines of a recipe's patches with some vectors, exactly.

x = embedding + Σ over layers (Σ heads W_h·(A·v)_h + Σ neurons w_n·a_n + biases); of the last block, what the recipe makes of it.
Each part meets the few directions that are asked for the moment it exists, so nothing as wide as the stream is kept.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.attribution.components import Component
from analysis.attribution.readout import Readout
from clearclip.errors import UserError
from clearclip.methods.affinity import product
from clearclip.methods.dense import require_served
from clearclip.methods.recipe import Recipe
from clearclip.methods.trunk import Guide, Trunk, summed
from clearclip.models.backbone import Backbone, BlockInput
from clearclip.models.block import Block, Writer


class Parts(NamedTuple):
    """Cosines taken apart."""

    values: Tensor  # (B, N, K, T), what each component adds; their sum over K is the cosine
    components: list[Component]  # K of them
    cosines: Tensor  # (B, N, T), as the recipe itself has them
    grid: tuple[int, int]  # rows and columns of the N patches
    factor: Tensor  # (B, N, 1), 1 / (σ|f|) of every patch: what a direction of the stream is multiplied with


def refuse_stages(recipe: Recipe) -> None:
    """Raise `UserError` for a recipe whose score is no sum over the components of one token."""
    around = [*recipe.before, *recipe.beside, *recipe.after]
    if around or recipe.needs_truth:
        why = ", ".join(map(repr, around)) or "by the true labels"
        raise UserError(
            f"recipe {recipe.name} mixes patches around the last block ({why}), so its scores are no sum over heads and "
            "neurons. Take one without such stages, such as clip or clearclip."
        )


@torch.inference_mode()
def decompose(readout: Readout, images: Tensor, recipe: Recipe, guide: Backbone | None = None) -> Parts:
    """Take the cosines of a recipe's patches apart.

    Args:
        readout: the model and the vectors.
        images: normalized, (B, 3, H, W).
        recipe: any without stages around the last block; its stages behind the windows are left out.
        guide: a second model for recipes that ask one.

    Raises:
        UserError: the recipe's scores are no such sum.
    """
    refuse_stages(recipe)
    model = readout.model
    require_served(recipe, model, guide)
    last = recipe.reads(model.depth)
    first = last - recipe.stream + 1 if recipe.residual else last
    ledger = _Ledger(readout)
    if recipe.beta:
        ledger.kept_channels(_unpruned(model, model.block_inputs(images, [last])[last].x, recipe.beta))
    inputs = _run(model, images, recipe, first, ledger)
    if recipe.normalize_residual:
        ledger.rescale(_residual(ledger, inputs[first].x).norm(dim=-1, keepdim=True).clamp(min=1e-12).reciprocal())
    trunk = Trunk(model, images, inputs, None if guide is None else Guide(guide, images, model))
    with model.autocast():
        x = _last_blocks(trunk, recipe, range(first, last + 1), ledger)
        features, rest = readout.features(x)
    length = features.norm(dim=-1, keepdim=True)  # (B, L, 1)
    factor = readout.scale(x) / length
    ledger.rescale(readout.scale(x))
    ledger.add(Component("norm"), readout.constant.expand(*length.shape[:2], -1))
    if not readout.is_linear:
        ledger.add(Component("pool"), rest @ readout.unit.T)
    ledger.rescale(length.reciprocal())
    prefix = 0 if recipe.elsewhere else model.prefix_tokens
    cosines, values = (features / length) @ readout.unit.T, ledger.values()
    if recipe.cls_weight:
        cosines = cosines[:, prefix:] + recipe.cls_weight * cosines[:, :1]
        values = values[:, prefix:] + recipe.cls_weight * values[:, :1]
    else:
        cosines, values = cosines[:, prefix:], values[:, prefix:]
    grid = trunk.second.grid if recipe.elsewhere else trunk.grid
    return Parts(values, ledger.components, cosines, grid, factor[:, prefix:])


class _Ledger:
    """What each component adds along the asked directions, entered one after the other, (B, L, T) each."""

    def __init__(self, readout: Readout) -> None:
        self.directions = readout.stream  # (D, T)
        self.readout, self.components = readout, list[Component]()
        self.channels: Tensor | None = None  # those of each image that count, (B, 1, D)
        self._values: list[Tensor] = []

    def kept_channels(self, mask: Tensor) -> None:
        """Count these channels of each image only, (B, D) bool, until `all_channels`."""
        self.directions = self.readout.stream * mask[:, :, None]  # (B, D, T)
        self.channels = mask[:, None]

    def all_channels(self) -> None:
        """Count all channels again."""
        self.directions, self.channels = self.readout.stream, None

    def add(self, component: Component, values: Tensor) -> None:
        """Enter what one component adds, (B, L, T)."""
        self.components.append(component)
        self._values.append(values)

    def write(self, component: Component, x: Tensor) -> None:
        """Enter a part of the stream, (B, L, D)."""
        self.add(component, self.seen(x))

    def seen(self, x: Tensor) -> Tensor:
        """A part of the stream along the directions, (B, L, D) → (B, L, T)."""
        return _product(x.to(self.readout.dtype), self.directions)

    def attention(self, layer: int, block: Block, gathered: Tensor, alpha: float = 1.0) -> None:
        """Enter the heads of a block from what its output projection is given, (B, L, heads · C)."""
        toward = self._toward(block.attention_writer).unflatten(-2, (block.heads, -1))  # (…, heads, C, T)
        each = gathered.to(self.readout.dtype).unflatten(-1, (block.heads, -1)).transpose(1, 2)  # (B, heads, L, C)
        for head, values in enumerate(_product(each, alpha * toward).unbind(1), 1):
            self.add(Component("head", layer, head), values)

    def neurons(self, layer: int, block: Block, activations: Tensor) -> None:
        """Enter the FFN of a block from what its second linear module is given, (B, L, M)."""
        toward = self._toward(block.ffn_writer)
        self.add(Component("ffn", layer), _product(activations.to(self.readout.dtype), toward))

    def biases(self, layer: int, like: Tensor, *weighted: tuple[Writer, float]) -> None:
        """Enter the biases of some modules of a block, for as many tokens as there are in (B, L, …)."""
        total = sum(weight * writer.bias_toward(self.directions) for writer, weight in weighted)
        assert isinstance(total, Tensor)
        rows = total if total.ndim == 1 else total[:, None]
        self.add(Component("bias", layer), rows.expand(*like.shape[:2], -1))

    def remainder(self, layer: int, x: Tensor, ahead: Tensor | float = 0.0) -> None:
        """Enter what is in the stream, (B, L, D), and was written by nobody: what an intervention has put there.

        Args:
            layer: behind whose block.
            x: the stream.
            ahead: what has been entered and is not in the stream yet, (B, L, T) or alike.
        """
        self.add(Component("intervention", layer), self.seen(x) + ahead - torch.stack(self._values).sum(0))

    def rescale(self, factor: Tensor) -> None:
        """Multiply all that has been entered, with a factor for each token, (B, L, 1)."""
        self._values = [values * factor for values in self._values]

    def values(self) -> Tensor:
        """All of it, (B, L, K, T)."""
        return torch.stack(self._values, 2)

    def _toward(self, writer: Writer) -> Tensor:
        return writer.toward(self.directions)


def _product(a: Tensor, b: Tensor) -> Tensor:
    with torch.autocast(a.device.type, enabled=False):  # parts would not add up in half precision
        return a @ b


def _run(model: Backbone, images: Tensor, recipe: Recipe, first: int, ledger: _Ledger) -> dict[int, BlockInput]:
    """Run the trunk, enter all that was written before block `first` if the recipe keeps it, and give the wanted inputs."""
    wanted = {*recipe.reads_layers(model.depth), first}
    if not recipe.residual:
        return model.block_inputs(images, sorted(wanted))
    inputs: dict[int, BlockInput] = {}
    layers = range(1, max(*wanted, first) + 1)

    def see(layer: int, given: BlockInput) -> None:
        if layer in wanted:
            inputs[layer] = given
        if layer == 1:
            ledger.write(Component("embedding"), given.x)
        elif layer <= first and model.interventions:
            ledger.remainder(layer - 1, given.x)
        if layer >= first:
            return
        block = model.blocks[layer - 1]
        y = block.norm1(given.x)
        values = F.scaled_dot_product_attention(*block.qkv(y, given.rope))
        ledger.attention(layer, block, block.gathered(values, y))
        ledger.biases(layer, y, (block.attention_writer, 1.0), (block.ffn_writer, 1.0))

    with ExitStack() as stack:
        for layer in range(1, first):
            block = model.blocks[layer - 1]
            stack.enter_context(block.ffn_writer.watched(partial(ledger.neurons, layer, block)))
        model.run_until(images, layers, see)
    return inputs


def _last_blocks(trunk: Trunk, recipe: Recipe, layers: range, ledger: _Ledger) -> Tensor:
    """What the recipe hands to the final norm, (B, L, D), its own parts entered: those of `DenseEncoder`, one by one."""
    model, x = trunk.model, None
    if recipe.residual:
        x = _residual(ledger, trunk.inputs[layers[0]].x)
        x = F.normalize(x, dim=-1) if recipe.normalize_residual else x
    ledger.all_channels()
    for layer in layers:
        block, seen = model.blocks[layer - 1], trunk.attended(layer)
        if recipe.alpha:
            values = summed([weight * product(name)(seen) for name, weight in recipe.terms])
            ledger.attention(layer, block, block.gathered(values, seen.y), recipe.alpha)
            x_attn = recipe.alpha * block.output(values, seen.y)
            x = x_attn if x is None else x + x_attn
        assert x is not None
        x = block.summed(x) if recipe.residual else x
        own = [(block.attention_writer, recipe.alpha), *([(block.ffn_writer, 1.0)] if recipe.ffn else [])]
        ledger.biases(layer, x, *own)
        if model.interventions and recipe.residual:
            ledger.remainder(layer, x, block.ffn_writer.bias_toward(ledger.directions) if recipe.ffn else 0.0)
    assert x is not None
    if not recipe.ffn:
        return x
    with block.ffn_writer.watched(partial(ledger.neurons, layers[-1], block)):
        return x + block.ffn(x)


def _residual(ledger: _Ledger, x: Tensor) -> Tensor:
    """X_res without the channels that the recipe prunes, (B, L, D)."""
    return x if ledger.channels is None else x * ledger.channels


def _unpruned(model: Backbone, x: Tensor, beta: float) -> Tensor:
    """Which channels of each image are left when those of the highest mean are pruned, (B, D)."""
    removed = round(beta * x.shape[-1])
    means = x[:, model.prefix_tokens :].float().mean(1)  # (B, D), over the patches
    return torch.ones_like(means, dtype=torch.bool).scatter(-1, means.topk(removed, -1).indices, False)
