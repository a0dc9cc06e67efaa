"""DenseEncoder: images → the trunk once → patch features of many recipes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.interventions.change import Change
from clearclip.interventions.view import intervene
from clearclip.methods.affinity import Affinity, attention_output, product
from clearclip.methods.graph import mean_cosine
from clearclip.methods.passes import Fresh, Passes
from clearclip.methods.recipe import Recipe
from clearclip.methods.recipes import recipes
from clearclip.methods.trunk import Attended, Guide, Trunk
from clearclip.models.backbone import Backbone
from clearclip.models.wrap import ModelLike, as_backbone


class Dense(NamedTuple):
    """What several recipes make of a batch of images."""

    features: dict[str, Tensor]  # (B, hw, E) for each recipe
    norms: dict[str, Tensor]  # (B, 2), of X_res and X_attn (paper Fig. 2), over the patches; empty unless asked for
    # what stages want of each image once all windows of a picture are done, (B, K, rows, columns)
    kept: dict[str, Tensor]
    trunks: dict[str, Trunk]  # what the stages that score look at, by recipe


def require_served(recipe: Recipe, model: Backbone, proxy: Backbone | None) -> None:
    """Raise `UserError` for a recipe that a model, or the second model beside it, cannot serve."""
    depth = model.depth
    if recipe.layer is not None:
        model.layers([recipe.layer])
    if recipe.stream > recipe.reads(depth):
        raise UserError(f"recipe {recipe.name} covers {recipe.stream} blocks, {model.name} has {depth}.")
    if recipe.cls_weight and not model.prefix_tokens:
        raise UserError(f"recipe {recipe.name} needs a CLS token, and {model.name} has none.")
    for part in recipe.parts:
        try:
            part.check(model, proxy)
        except UserError as error:
            raise UserError(f"recipe {recipe.name}: {error}") from error
    if recipe.elsewhere and (recipe.residual or recipe.ffn or recipe.cls_weight or len(recipe.terms) > 1):
        raise UserError(
            f"recipe {recipe.name}: a proxy's patches lie on another grid, so nothing can be added to them."
        )


class DenseEncoder:
    """Patch features in the text space, for one or many recipes, from one pass through the trunk.

    The blocks before the first one that a recipe changes run once, and once more for each other way to resize positions and
    for recipes with interventions. q, k, v, each A·v and each projected attention output are computed once and shared by all
    recipes; residual, α and β are sums of what is there.

    Args:
        model: a `Backbone` with a text space, a live module, or a name.
        methods: names of recipes, or `Recipe`s.
        proxy: a second model for recipes that take their affinity from one (`proxyclip`).
        passes: keeps what the trunk gave, for other encoders of the same images; by default nothing is kept.

    Raises:
        UserError: the model cannot serve a recipe, and why.

    >>> import clearclip
    >>> encoder = DenseEncoder(clearclip.load("clip_vitb32", random=True), ["clip", "clearclip"])
    >>> {name: tuple(features.shape) for name, features in encoder(torch.zeros(2, 3, 96, 64)).items()}
    {'clip': (2, 6, 512), 'clearclip': (2, 6, 512)}
    """

    def __init__(
        self,
        model: ModelLike,
        methods: Iterable[str | Recipe],
        proxy: ModelLike | None = None,
        passes: Passes | None = None,
    ) -> None:
        self.passes = passes or Fresh()
        self.model, self.proxy = as_backbone(model), None if proxy is None else as_backbone(proxy)
        self.recipes = recipes(methods)
        if not self.model.has_projection:
            self.model.project(torch.empty(0))  # raises, saying why
        for recipe in self.recipes:
            require_served(recipe, self.model, self.proxy)
        if self.proxy is not None and not any(recipe.needs_guide for recipe in self.recipes):
            raise UserError(f"none of the recipes looks at a second model: leave out the proxy {self.proxy.name}.")
        self._models = {_view(recipe): self._seen_by(recipe) for recipe in self.recipes}
        self._layers = sorted({layer for recipe in self.recipes for layer in recipe.reads_layers(self.model.depth)})

    def _seen_by(self, recipe: Recipe) -> Backbone:
        """The model as a recipe looks at it: with its positions, and its interventions."""
        model = self.model.resized(recipe.resize_positions)
        return intervene(model, recipe.changes, model.name) if recipe.changes else model

    def grid(self, name: str, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of a recipe's patch features for images of (height, width) pixels."""
        recipe = next(recipe for recipe in self.recipes if recipe.name == name)
        if self.proxy is not None and recipe.elsewhere:
            p = self.proxy.patch_size
            return max(1, image_size[0] // p), max(1, image_size[1] // p)
        return self.model.grid(image_size)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W) → for each recipe L2-normalised patch features (B, hw, E), float32.

        With a `cls_weight` the features are a sum of two unit vectors and have another length, so that their product
        with a text embedding is the sum of the two cosines.
        """
        return self.encode(images).features

    @torch.inference_mode()
    def encode(
        self,
        images: Tensor,
        norms: bool = False,
        regions: Tensor | None = None,
        texts: Tensor | None = None,
        owner: Tensor | None = None,
        truth: Tensor | None = None,
        mean_similarity: float | None = None,
        empty: Tensor | None = None,
    ) -> Dense:
        """As a call, with more of what recipes need and give.

        Args:
            images: normalized, (B, 3, H, W).
            norms: also give the Frobenius norms of X_res and X_attn in the block that each recipe reads.
            regions: a label for every pixel, (B, H, W) int64, for recipes that take regions.
            texts: one L2-normalized row per name, (Q, E), for recipes that look at the names.
            owner: the class of each name, (Q,).
            truth: the true label of every pixel, (B, H, W) int64, for recipes that are told it.
            mean_similarity: see `Trunk`.
            empty: what the prompts say without any name, (E,), for recipes that ask for it.
        """
        inputs = {view: self.passes.block_inputs(model, images, self._layers) for view, model in self._models.items()}
        # in its own precision
        guide = None if self.proxy is None else Guide(self.proxy, images, self.model, self.passes)
        with self.model.autocast():
            passes = {
                view: _Shared(
                    Trunk(
                        model,
                        images,
                        inputs[view],
                        guide,
                        regions,
                        truth,
                        texts,
                        owner,
                        empty=empty,
                        mean_similarity=mean_similarity,
                    )
                )
                for view, model in self._models.items()
            }
            done: dict[Recipe, tuple[Tensor, Tensor]] = {}
            result, measured, kept = {}, {}, {}
            for recipe in self.recipes:
                shared = passes[_view(recipe)]
                if recipe.encoding not in done:
                    done[recipe.encoding] = self._features(shared, recipe)
                result[recipe.name], patches = done[recipe.encoding]
                if (keepsake := shared.keepsake(recipe, patches)) is not None:
                    kept[recipe.name] = keepsake
                if norms:
                    measured[recipe.name] = shared.norms(recipe)
        trunks = {recipe.name: passes[_view(recipe)].trunk for recipe in self.recipes}
        return Dense(result, measured, kept, trunks)

    def mean_similarities(self, images: Tensor) -> list[float]:
        """The mean cosine of the second model's patches for each of some crops (B, 3, H, W), for `encode`."""
        assert self.proxy is not None  # as every recipe that asks for it has been checked
        return [mean_cosine(F.normalize(x.float(), dim=1)) for x in Guide(self.proxy, images, self.model).features]

    def _features(self, shared: _Shared, recipe: Recipe) -> tuple[Tensor, Tensor]:
        """A recipe's features in the text space, (B, N, E), and its patches before the final norm, (B, N, D)."""
        if recipe.pipeline:
            x, prefix = shared.staged(recipe), 0
        else:
            x, prefix = shared.stream(recipe), 0 if recipe.elsewhere else shared.model.prefix_tokens
        normed = x if recipe.joins_normed else self.model.final_norm(x)
        features = F.normalize(self.model.project(normed).float(), dim=-1)  # (B, L, E)
        patches = features[:, prefix:]
        if recipe.cls_weight:
            patches = patches + recipe.cls_weight * features[:, :1]
        return patches, x[:, prefix:]


def _view(recipe: Recipe) -> tuple[str, tuple[Change, ...]]:
    """Recipes of equal views share the trunk."""
    return recipe.resize_positions, recipe.changes


class _Shared:
    """Everything that several recipes have in common, for one batch: computed on first use, kept until the batch is done."""

    def __init__(self, trunk: Trunk) -> None:
        self.trunk, self.model, self.inputs = trunk, trunk.model, trunk.inputs
        self._values: dict[tuple[int, str], Tensor] = {}
        self._x_attn: dict[tuple[int, Affinity], Tensor] = {}
        self._staged: dict[Recipe, Tensor] = {}  # what attention gave out at the patches, of recipes with stages

    def values(self, layer: int, name: str) -> Tensor:
        """A·v of one product, (B, heads, L, C)."""
        if (layer, name) not in self._values:
            self._values[layer, name] = product(name)(self.trunk.attended(layer))
        return self._values[layer, name]

    def x_attn(self, layer: int, terms: Affinity) -> Tensor:
        """Proj(Σ w·A·v), (B, L, D)."""
        if (layer, terms) not in self._x_attn:
            seen = self.trunk.attended(layer)
            self._x_attn[layer, terms] = attention_output(seen, terms, partial(self.values, layer))
        return self._x_attn[layer, terms]

    def staged(self, recipe: Recipe) -> Tensor:
        """What a recipe with stages around the last block hands on at the patches, (B, N, D)."""
        tokens = self.trunk.tokens(recipe.reads(self.model.depth))
        if recipe.elsewhere:
            tokens = replace(tokens, elsewhere=True)
        for before in recipe.before:
            tokens = before(tokens)
        block, seen = self.model.blocks[tokens.layer - 1], tokens.seen

        def attend(seen: Attended) -> Tensor:
            return recipe.alpha * attention_output(seen, recipe.terms)

        def after(x: Tensor, cls: Tensor) -> Tensor:
            for stage in recipe.after:
                x = stage(x, cls, tokens)
            return x

        left_out = 0 if recipe.elsewhere else seen.prefix
        x = attend(seen)
        self._staged[recipe.encoding] = x[:, left_out:]
        if recipe.residual:
            x = block.summed(x + tokens.x[:, tokens.x.shape[1] - x.shape[1] :])
        if recipe.ffn:
            x = x + block.ffn(x)
        x = after(x[:, left_out:], tokens.x[:, :1])
        if recipe.joins_normed:
            x = self.model.final_norm(x)
        for beside in recipe.beside:
            added, cls = beside(tokens, attend)
            added = added[:, left_out:] if cls is None else after(added[:, left_out:], cls)
            x = x + (beside.weight * self.model.final_norm(added) if recipe.joins_normed else added)
        return x

    def keepsake(self, recipe: Recipe, patches: Tensor) -> Tensor | None:
        """What a recipe's stages keep of each crop for the whole picture, which only the first of them may do."""
        if not recipe.merged:
            return None
        first = recipe.merged[0]
        return self.trunk.once((recipe.encoding, first), lambda: first.keep(patches, self.trunk))

    def norms(self, recipe: Recipe) -> Tensor:
        """Frobenius norms of X_res and X_attn on the patches of the block that a recipe reads, (B, 2)."""
        last = recipe.reads(self.model.depth)
        x_res = self.inputs[last].x
        x_attn = self._staged[recipe.encoding] if recipe.pipeline else self.x_attn(last, recipe.terms)
        if not recipe.pipeline and x_attn.shape[1] == x_res.shape[1]:  # a proxy's grid has no prefix tokens
            x_attn = x_attn[:, self.model.prefix_tokens :]
        maps = x_res[:, self.model.prefix_tokens :], x_attn
        return torch.stack([x.float().norm(dim=(1, 2)) for x in maps], -1)

    def stream(self, recipe: Recipe) -> Tensor:
        """What a recipe hands to the final norm, (B, L, D)."""
        last = recipe.reads(self.model.depth)
        if not recipe.residual:
            x = recipe.alpha * self.x_attn(last, recipe.terms)
        elif recipe.stream > 1:
            x = self.inputs[last - recipe.stream + 1].x
            for layer in range(last - recipe.stream + 1, last + 1):
                x = self.model.blocks[layer - 1].summed(x + recipe.alpha * self.x_attn(layer, recipe.terms))
        else:
            x = self.residual(last, recipe)
            if recipe.alpha:
                x = x + (
                    self.x_attn(last, recipe.terms)
                    if recipe.alpha == 1
                    else recipe.alpha * self.x_attn(last, recipe.terms)
                )
            x = self.model.blocks[last - 1].summed(x)
        return x + self.model.blocks[last - 1].ffn(x) if recipe.ffn else x

    def residual(self, layer: int, recipe: Recipe) -> Tensor:
        """X_res, its strongest channels pruned and its tokens normalised as the recipe wants, (B, L, D)."""
        x = self.inputs[layer].x
        removed = round(recipe.beta * x.shape[-1])
        if removed:
            means = x[:, self.model.prefix_tokens :].float().mean(1)  # (B, D), over the patches
            x = x.scatter(-1, means.topk(removed, -1).indices[:, None].expand(-1, x.shape[1], -1), 0)
        return F.normalize(x, dim=-1) if recipe.normalize_residual else x
