"""One batch on its way: what the trunk gave every block, and the tokens that a recipe hands to the last one."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.passes import Fresh, Passes
from clearclip.models.backbone import Backbone, BlockInput

T = TypeVar("T")
DEPTH = 12  # the published methods count the blocks of a ViT-B


def scaled(layer: int, depth: int) -> int:
    """A block of a 12-block model in a model of another depth, counted from 1.

    >>> scaled(9, 12), scaled(9, 24), scaled(9, 6), scaled(1, 6)
    (9, 18, 4, 1)
    """
    return min(depth, max(1, round(layer * depth / DEPTH)))


def after(layer: int, depth: int) -> int:
    """A block of a 12-block model whose output is looked at, in a model of another depth: at most the last but one."""
    return min(scaled(layer, depth), depth - 1)


@dataclass
class Trunk:
    """What recipes may look at in one batch of crops; everything is computed on first use and shared by all recipes.

    Args:
        model: the CLIP.
        images: the crops, normalized for the model, (B, 3, H, W).
        inputs: the inputs of those blocks that recipes need.
        guide: a second model's view of the same crops, None without one.
        regions: a label for every pixel of the crops, (B, H, W) int64, None unless somebody gave some.
        truth: the true label of every pixel, (B, H, W) int64, None where nobody knows it.
        texts: one L2-normalized row per name that is asked for, (Q, E), None where nothing is asked.
        owner: the class of each name, (Q,).
        mean_similarity: the mean cosine of the second model's patches over all windows of the picture that the crops are of.
        empty: what the prompts say without any name, L2-normalized, (E,), None unless a recipe needs it.
    """

    model: Backbone
    images: Tensor
    inputs: dict[int, BlockInput]
    guide: Guide | None = None
    regions: Tensor | None = None
    truth: Tensor | None = None
    texts: Tensor | None = None
    owner: Tensor | None = None
    mean_similarity: float | None = None
    empty: Tensor | None = None
    _kept: dict[Hashable, object] = field(default_factory=dict, repr=False)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.model.grid((self.images.shape[-2], self.images.shape[-1]))

    @property
    def second(self) -> Guide:
        """The second model's view; raises `UserError` without one."""
        if self.guide is None:
            raise UserError(
                'this affinity needs a second model: DenseEncoder(model, recipes, proxy=load("dino_vitb8")).'
            )
        return self.guide

    def grid_of(self, patches: Tensor) -> tuple[int, int]:
        """Rows and columns of patches (B, N, D) that a recipe hands on: the second model's where it has taken them over."""
        return self.guide.grid if self.guide and patches.shape[1] != math.prod(self.grid) else self.grid

    @property
    def prefix(self) -> int:
        """How many tokens stand before the patches."""
        return self.model.prefix_tokens

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """A value that several recipes share: computed when the first of them asks for it."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]  # type: ignore[return-value]

    def output(self, layer: int) -> Tensor:
        """All tokens after a block, counted from 1, or after the embedding for 0; not of the last block, (B, L, D)."""
        return self.inputs[layer + 1].x

    def tokens(self, layer: int) -> Tokens:
        """The tokens that the trunk gives to a block."""
        return self.once(("tokens", layer), lambda: Tokens(self, layer, self.inputs[layer].x))

    def attended(self, layer: int) -> Attended:
        """q, k and v of a block of the untouched model."""
        return self.tokens(layer).seen

    def embedding(self) -> Tensor:
        """The image embedding of the untouched model, L2-normalized, (B, 1, E)."""
        return self.once("embedding", self._embedding)

    def _embedding(self) -> Tensor:
        last = self.inputs[self.model.depth]
        x = self.model.final_norm(self.model.blocks[-1].forward(last.x, last.rope)[:, :1])
        return F.normalize(self.model.project(x).float(), dim=-1)


@dataclass(frozen=True)
class Tokens:
    """The tokens that a recipe hands to a block: those of the trunk, or what its stages have made of them.

    Args:
        trunk: the pass that they come from.
        layer: the block that they are handed to, counted from 1.
        x: all tokens, (B, L, D).
        alone: the patches attend to one another only, and the tokens before them take no part.
        repaired: patches after other blocks where a stage has changed them, (B, N, D) by layer.
        elsewhere: the patches that the recipe gives out lie on the second model's grid.
        merged: the regions on the second model's grid where a stage has changed them, (B, rows, columns).
        labels: a number for every patch, (B, N), where a stage has told them apart.
    """

    trunk: Trunk
    layer: int
    x: Tensor
    alone: bool = False
    repaired: dict[int, Tensor] = field(default_factory=dict)
    elsewhere: bool = False
    merged: Tensor | None = None
    labels: Tensor | None = None
    _similar: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the patches that the recipe gives out."""
        return self.seen.guide.grid if self.elsewhere else self.trunk.grid

    @property
    def own(self) -> Tensor:
        """The patches among these tokens, (B, N, D)."""
        return self.x[:, self.trunk.prefix :]

    def patches(self, layer: int) -> Tensor:
        """The patches after a block, repaired where a stage has done that, (B, N, D)."""
        return self.repaired[layer] if layer in self.repaired else self.trunk.output(layer)[:, self.trunk.prefix :]

    def similarity(self, layer: int) -> Tensor:
        """Cosines of the patches after a block, (B, N, N) float32."""
        if layer not in self._similar:
            self._similar[layer] = cosines(self.patches(layer))
        return self._similar[layer]

    def change(self, patches: Tensor, repaired: dict[int, Tensor] | None = None) -> Tokens:
        """The tokens with other patches, (B, N, D), and with repaired ones after other blocks."""
        x = torch.cat([self.x[:, : self.trunk.prefix], patches], 1)
        return replace(self, x=x, repaired={**self.repaired, **(repaired or {})}, _similar={})

    @cached_property
    def seen(self) -> Attended:
        """q, k and v of these tokens in their block."""
        return self.attended(self.x)

    def attended(self, x: Tensor) -> Attended:
        """q, k and v of other tokens, (B, L, D), in the same block."""
        block, rope = self.trunk.model.blocks[self.layer - 1], self.trunk.inputs[self.layer].rope
        y = block.norm1(x)
        q, k, v = block.qkv(y, rope)  # of all tokens: rotary positions count the ones before the patches, too
        left_out = self.trunk.prefix if self.alone else 0
        return Attended(q[:, :, left_out:], k[:, :, left_out:], v[:, :, left_out:], y[:, left_out:], self)


@dataclass(frozen=True)
class Attended:
    """What an affinity looks at in one block: q, k, v (B, heads, L, C), y = LN1(x) (B, L, D), and where they come from."""

    q: Tensor
    k: Tensor
    v: Tensor
    y: Tensor
    tokens: Tokens

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.tokens.trunk.grid

    @property
    def prefix(self) -> int:
        """How many of the tokens stand before the patches."""
        return 0 if self.tokens.alone else self.tokens.trunk.prefix

    @property
    def guide(self) -> Guide:
        """The second model's view; raises `UserError` without one."""
        return self.tokens.trunk.second

    def pair(self, names: str) -> tuple[Tensor, Tensor]:
        """Two of q, k and v, by a text such as "qk"."""
        first, second = names[0], names[1]
        return getattr(self, first), getattr(self, second)

    def softmax(self, a: Tensor, b: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Tensor:
        """softmax(s · a·bᵀ + bias)·v, with s = C^-½ unless given, (B, heads, L, C)."""
        return F.scaled_dot_product_attention(a, b, self.v, attn_mask=bias, scale=scale)


class Guide:
    """A second model's view of the same crops, in its own normalization and precision; its last block runs when first asked for.

    Args:
        model: the second model.
        images: the crops as the first model is given them, normalized for it, (B, 3, H, W).
        seen_by: the first model.
        passes: keeps what the trunk gave; by default nothing is kept.
    """

    def __init__(self, model: Backbone, images: Tensor, seen_by: Backbone, passes: Passes | None = None) -> None:
        p = model.patch_size
        size = (max(1, images.shape[-2] // p) * p, max(1, images.shape[-1] // p) * p)
        if size != tuple(images.shape[-2:]):
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        self.model, self.grid, self._device = model, model.grid(size), images.device
        pixels = model.normalize(seen_by.denormalize(images))
        self.last = (passes or Fresh()).block_inputs(model, pixels, [model.depth])[model.depth]

    @cached_property
    def features(self) -> Tensor:
        """Its patches after the last block and the final norm, (B, N, D)."""
        with self._own_precision():
            tokens = self.model.final_norm(self.model.blocks[-1].forward(self.last.x, self.last.rope))
        return tokens[:, self.model.prefix_tokens :].to(self._device)

    @cached_property
    def qkv(self) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of its last block, prefix tokens included, each (B, heads, L, C)."""
        block = self.model.blocks[-1]
        with self._own_precision():
            q, k, v = block.qkv(block.norm1(self.last.x), self.last.rope)
        return q.to(self._device), k.to(self._device), v.to(self._device)

    @contextmanager
    def _own_precision(self) -> Iterator[None]:
        with torch.autocast(self._device.type, enabled=False), self.model.autocast():
            yield


def summed(parts: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape; a single one is handed on as it is."""
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).sum(0)


def cosines(x: Tensor) -> Tensor:
    """Cosines between the tokens of each image, or of each of its heads, (…, N, D) → (…, N, N) float32."""
    unit = F.normalize(x.float(), dim=-1)
    with torch.autocast(unit.device.type, enabled=False):  # or autocast would undo the float()
        return unit @ unit.mT


def above_mean(similarity: Tensor, gamma: float, shift: float = 1.0, mean: float | None = None) -> Tensor:
    """softmax(γ(S − shift · mean S), entries < 0 → −∞) of similarities (…, N, N), by default the mean over each image's entries.

    A patch always listens to itself, so that a picture of one texture leaves no empty row.
    """
    level = similarity.mean((1, 2), keepdim=True) if mean is None else mean
    scores = gamma * (similarity - shift * level)
    itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    return scores.masked_fill((scores < 0) & ~itself, -math.inf).softmax(-1)
