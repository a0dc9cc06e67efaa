"""DenseEncoder: images → the trunk once → patch features of many recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.affinity import MIDDLE, PRODUCTS, Affinity, Attended
from clearclip.methods.recipes import Recipe, recipes
from clearclip.models.backbone import Backbone, BlockInput
from clearclip.models.wrap import ModelLike, as_backbone


class Dense(NamedTuple):
    """What several recipes make of a batch of images."""

    features: dict[str, Tensor]  # (B, hw, E) for each recipe
    norms: dict[str, Tensor]  # (B, 2), of X_res and X_attn (paper Fig. 2), over the patches; empty unless asked for


class DenseEncoder:
    """Patch features in the text space, for one or many recipes, from one pass through the trunk.

    The blocks before the first one that a recipe changes run once; q, k, v, each A·v and each projected attention output
    are computed once and shared by all recipes; residual, α and β are sums of what is there.

    Args:
        model: a `Backbone` with a text space, a live module, or a name.
        methods: names of recipes, or `Recipe`s.
        proxy: a second model for recipes that take their affinity from one (`proxyclip`).

    Raises:
        UserError: the model cannot serve a recipe, and why.

    >>> import clearclip
    >>> encoder = DenseEncoder(clearclip.load("clip_vitb32", random=True), ["clip", "clearclip"])
    >>> {name: tuple(features.shape) for name, features in encoder(torch.zeros(2, 3, 96, 64)).items()}
    {'clip': (2, 6, 512), 'clearclip': (2, 6, 512)}
    """

    def __init__(self, model: ModelLike, methods: Iterable[str | Recipe], proxy: ModelLike | None = None) -> None:
        self.model, self.proxy = as_backbone(model), None if proxy is None else as_backbone(proxy)
        self.recipes = recipes(methods)
        if not self.model.has_projection:
            self.model.project(torch.empty(0))  # raises, saying why
        for recipe in self.recipes:
            self._check(recipe)
        if self.proxy is not None and not any(name == "proxy" for recipe in self.recipes for name, _ in recipe.terms):
            raise UserError(f"none of the recipes looks at a second model: leave out the proxy {self.proxy.name}.")
        self._layers = sorted({layer for recipe in self.recipes for layer in self._needs(recipe)})

    def _check(self, recipe: Recipe) -> None:
        depth = self.model.depth
        if recipe.layer is not None:
            self.model.layers([recipe.layer])
        if recipe.stream > recipe.reads(depth):
            raise UserError(f"recipe {recipe.name} covers {recipe.stream} blocks, {self.model.name} has {depth}.")
        if recipe.cls_weight and not self.model.prefix_tokens:
            raise UserError(f"recipe {recipe.name} needs a CLS token, and {self.model.name} has none.")
        names = [name for name, _ in recipe.terms]
        if "proxy" in names:
            if self.proxy is None:
                raise UserError(
                    f'recipe {recipe.name} needs a second model, such as proxy=clearclip.load("dino_vitb8").'
                )
            if recipe.residual or recipe.ffn or recipe.cls_weight or len(names) > 1:
                raise UserError(
                    f"recipe {recipe.name}: a proxy's patches lie on another grid, so nothing can be added to them."
                )

    def _needs(self, recipe: Recipe) -> list[int]:
        """The layers whose inputs a recipe looks at."""
        last = recipe.reads(self.model.depth)
        middle = self._middle() if any(name == "qk_middle" for name, _ in recipe.terms) else []
        return [*range(last - recipe.stream + 1 if recipe.residual else last, last + 1), *middle]

    def _middle(self) -> list[int]:
        """Blocks 6 … 9 of 12, or as far up in a model of another depth."""
        return sorted({max(1, round(layer * self.model.depth / 12)) for layer in MIDDLE})

    def grid(self, name: str, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of a recipe's patch features for images of (height, width) pixels."""
        recipe = next(recipe for recipe in self.recipes if recipe.name == name)
        if self.proxy is not None and any(term == "proxy" for term, _ in recipe.terms):
            p = self.proxy.patch_size
            return image_size[0] // p, image_size[1] // p
        return self.model.grid(image_size)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W) → for each recipe L2-normalised patch features (B, hw, E), float32.

        With a `cls_weight` the features are a sum of two unit vectors and have another length, so that their product
        with a text embedding is the sum of the two cosines.
        """
        return self.encode(images).features

    @torch.inference_mode()
    def encode(self, images: Tensor, norms: bool = False) -> Dense:
        """As a call; with `norms` also the Frobenius norms of X_res and X_attn in the block that each recipe reads."""
        inputs = self.model.block_inputs(images, self._layers)
        proxied = self._proxied(images) if self.proxy is not None else None  # in its own precision
        with self.model.autocast():
            shared = _Shared(self.model, inputs, self._attended(images, inputs, proxied))
            done: dict[Recipe, Tensor] = {}
            result, measured = {}, {}
            for recipe in self.recipes:
                if recipe.nameless not in done:
                    done[recipe.nameless] = self._features(shared, recipe)
                result[recipe.name] = done[recipe.nameless]
                if norms:
                    measured[recipe.name] = shared.norms(recipe)
        return Dense(result, measured)

    def _attended(
        self, images: Tensor, inputs: dict[int, BlockInput], proxied: tuple[Tensor, tuple[int, int]] | None
    ) -> Callable[[int], Attended]:
        """q, k, v and what else affinities need, of one layer."""
        wants_middle = any(name == "qk_middle" for recipe in self.recipes for name, _ in recipe.terms)
        grid = self.model.grid((images.shape[-2], images.shape[-1]))

        def qkv(layer: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
            block, seen = self.model.blocks[layer - 1], inputs[layer]
            y = block.norm1(seen.x)
            return y, block.qkv(y, seen.rope)

        middle = [qkv(layer)[1][:2] for layer in self._middle()] if wants_middle else []

        def attended(layer: int) -> Attended:
            y, (q, k, v) = qkv(layer)
            return Attended(q, k, v, y, grid, self.model.prefix_tokens, middle, proxied)

        return attended

    def _proxied(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patch features of the second model, through its final norm, for the same pictures in its own normalisation."""
        assert self.proxy is not None
        p = self.proxy.patch_size
        size = (images.shape[-2] // p * p, images.shape[-1] // p * p)
        if size != tuple(images.shape[-2:]):
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        features = self.proxy.last_tokens(self.proxy.normalize(self.model.denormalize(images)))
        return features[:, self.proxy.prefix_tokens :].to(self.model.device), self.proxy.grid(size)

    def _features(self, shared: _Shared, recipe: Recipe) -> Tensor:
        x = shared.stream(recipe)
        patches = 0 if any(name == "proxy" for name, _ in recipe.terms) else self.model.prefix_tokens
        features = F.normalize(self.model.project(self.model.final_norm(x)).float(), dim=-1)  # (B, L, E)
        if recipe.cls_weight:
            return features[:, patches:] + recipe.cls_weight * features[:, :1]
        return features[:, patches:]


class _Shared:
    """Everything that several recipes have in common, for one batch: computed on first use, kept until the batch is done."""

    def __init__(self, model: Backbone, inputs: dict[int, BlockInput], attended: Callable[[int], Attended]) -> None:
        self.model, self.inputs, self._attended = model, inputs, attended
        self._blocks: dict[int, Attended] = {}
        self._values: dict[tuple[int, str], Tensor] = {}
        self._x_attn: dict[tuple[int, Affinity], Tensor] = {}

    def block(self, layer: int) -> Attended:
        """q, k, v of a layer."""
        if layer not in self._blocks:
            self._blocks[layer] = self._attended(layer)
        return self._blocks[layer]

    def values(self, layer: int, product: str) -> Tensor:
        """A·v of one product, (B, heads, L, C)."""
        if (layer, product) not in self._values:
            self._values[layer, product] = PRODUCTS[product](self.block(layer))
        return self._values[layer, product]

    def x_attn(self, layer: int, terms: Affinity) -> Tensor:
        """Proj(Σ w·A·v): the sum is taken before the projection, so its bias counts once. (B, L, D)."""
        if (layer, terms) not in self._x_attn:
            weighted = [
                self.values(layer, name) * weight if weight != 1 else self.values(layer, name) for name, weight in terms
            ]
            total = weighted[0] if len(weighted) == 1 else torch.stack(weighted).sum(0)
            self._x_attn[layer, terms] = self.model.blocks[layer - 1].output(total, self.block(layer).y)
        return self._x_attn[layer, terms]

    def norms(self, recipe: Recipe) -> Tensor:
        """Frobenius norms of X_res and X_attn on the patches of the block that a recipe reads, (B, 2)."""
        last = recipe.reads(self.model.depth)
        maps = self.inputs[last].x[:, self.model.prefix_tokens :], self.x_attn(last, recipe.terms)
        if maps[1].shape[1] == self.inputs[last].x.shape[1]:  # a proxy's grid has no prefix tokens
            maps = maps[0], maps[1][:, self.model.prefix_tokens :]
        return torch.stack([x.float().norm(dim=(1, 2)) for x in maps], -1)

    def stream(self, recipe: Recipe) -> Tensor:
        """What a recipe hands to the final norm, (B, L, D)."""
        last = recipe.reads(self.model.depth)
        if not recipe.residual:
            x = recipe.alpha * self.x_attn(last, recipe.terms)
        elif recipe.stream > 1:
            x = self.inputs[last - recipe.stream + 1].x
            for layer in range(last - recipe.stream + 1, last + 1):
                x = x + recipe.alpha * self.x_attn(layer, recipe.terms)
        else:
            x = self.residual(last, recipe)
            if recipe.alpha:
                x = x + (
                    self.x_attn(last, recipe.terms)
                    if recipe.alpha == 1
                    else recipe.alpha * self.x_attn(last, recipe.terms)
                )
        return x + self.model.blocks[last - 1].ffn(x) if recipe.ffn else x

    def residual(self, layer: int, recipe: Recipe) -> Tensor:
        """X_res, its strongest channels pruned and its tokens normalised as the recipe wants, (B, L, D)."""
        x = self.inputs[layer].x
        removed = round(recipe.beta * x.shape[-1])
        if removed:
            means = x[:, self.model.prefix_tokens :].float().mean(1)  # (B, D), over the patches
            x = x.scatter(-1, means.topk(removed, -1).indices[:, None].expand(-1, x.shape[1], -1), 0)
        return F.normalize(x, dim=-1) if recipe.normalize_residual else x
