"""From which tokens a head has taken what it adds to the score of a patch: W_h·(A·v)_h is a sum over tokens, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from analysis.attribution.components import Component
from analysis.attribution.parts import decompose
from analysis.attribution.readout import Readout
from clearclip.errors import UserError
from clearclip.methods.recipe import Recipe
from clearclip.methods.trunk import Trunk
from clearclip.models.block import join_heads


class Sources(NamedTuple):
    """What heads have taken from where."""

    values: Tensor  # (B, heads of all layers, P, L, T), for P patches and L tokens, those before the patches first
    heads: list[Component]


def memory(readout: Readout, recipe: Recipe, patches: int, size: tuple[int, int]) -> int:
    """Bytes that the sources of one picture take.

    Args:
        readout: the model and the vectors.
        recipe: of which the last block's heads are.
        patches: how many patches are asked for.
        size: height and width of the picture in pixels.
    """
    model = readout.model
    rows, columns = model.grid(size)
    tokens, heads = (
        rows * columns + model.prefix_tokens,
        sum(model.blocks[i - 1].heads for i in _layers(recipe, model.depth)),
    )
    return heads * patches * tokens * len(readout.vectors) * 4


@torch.inference_mode()
def sources(readout: Readout, images: Tensor, recipe: Recipe, patches: Sequence[int]) -> Sources:
    """What every head has taken from every token for some patches; the sum over the tokens is what it adds.

    Args:
        readout: the model and the vectors.
        images: normalized, (B, 3, H, W).
        recipe: whose affinity is one of pairs of q, k and v, such as clip, clearclip, sclip.
        patches: which ones, counted from 0 in reading order.

    Raises:
        UserError: a recipe or a model whose heads' outputs are no sums over tokens.
    """
    model = readout.model
    layers = _layers(recipe, model.depth)
    parts = decompose(readout, images, recipe)
    trunk = Trunk(model, images, model.block_inputs(images, layers))
    asked = torch.tensor(patches, device=images.device) + model.prefix_tokens
    values, heads = [], []
    for layer in layers:
        block, seen = model.blocks[layer - 1], trunk.attended(layer)
        if not torch.equal(block.gathered(seen.v, seen.y), join_heads(seen.v)):
            raise UserError(f"{model.name} normalizes or gates what its heads gather, so it is no sum over tokens.")
        own = layer == recipe.reads(model.depth)
        terms = recipe.terms if own else (("qk", 1.0),)
        attention = sum(weight * _attention(name, seen.q, seen.k, seen.v, asked) for name, weight in terms)
        assert isinstance(attention, Tensor)  # (B, heads, P, L)
        toward = block.attention_writer.toward(readout.stream).unflatten(0, (block.heads, -1))  # (heads, C, T)
        given = seen.v.to(readout.dtype) @ toward  # (B, heads, L, T)
        alpha = recipe.alpha if own else 1.0
        values.append(alpha * attention.to(readout.dtype)[..., None] * given[:, :, None])
        heads += [Component("head", layer, head) for head in range(1, block.heads + 1)]
    factor = parts.factor[:, list(patches)]  # (B, P, 1)
    return Sources(torch.cat(values, 1) * factor[:, None, :, :, None], heads)


def _layers(recipe: Recipe, depth: int) -> list[int]:
    """The layers whose heads' sources can be told."""
    if recipe.stream > 1 or recipe.normalize_residual or recipe.beta or recipe.cls_weight:
        raise UserError(
            f"recipe {recipe.name}: sources are told for recipes that change nothing but affinity, residual, FFN."
        )
    last = recipe.reads(depth)
    return list(range(1, last + 1)) if recipe.residual else [last]


def _attention(name: str, q: Tensor, k: Tensor, v: Tensor, asked: Tensor) -> Tensor:
    """How much some tokens listen to all tokens, (B, heads, P, L)."""
    if name == "identity":
        rows = torch.eye(q.shape[2], dtype=q.dtype, device=q.device)[asked]
        return rows.expand(*q.shape[:2], -1, -1)
    if len(name) != 2 or not set(name) <= set("qkv"):
        raise UserError(
            f"{name}: sources are told for pairs of q, k and v and for the identity only, as in clip and clearclip."
        )
    first, second = ({"q": q, "k": k, "v": v}[letter] for letter in name)
    return (first[:, :, asked] @ second.mT * q.shape[-1] ** -0.5).softmax(-1)
