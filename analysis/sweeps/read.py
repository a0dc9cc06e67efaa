"""What a sweep's Dataset holds: which of its recipes is which, found by what they compute, and the values of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analysis.sweeps import recipe_lists
from analysis.sweeps.published import WITHOUT_BACKGROUND, has_background
from clearclip.errors import UserError
from clearclip.evaluation.table import read as read
from clearclip.methods.recipes import Recipe, feature_recipe
from clearclip.models.block import FEATURES


def find(dataset: xr.Dataset, recipe: Recipe) -> str | None:
    """The Dataset's name for what a recipe computes, whatever it is called there, or None."""
    return next((name for name, known in Recipe.from_coords(dataset).items() if known.same(recipe)), None)


def feature_of(recipe: Recipe) -> str:
    """The feature map that a recipe hands on before its FFN: X_res without attention output, X_attn without residual.

    >>> [feature_of(feature_recipe(feature)) for feature in FEATURES]
    ['X_res', 'X_attn', 'X_sum']
    """
    return "X_res" if recipe.alpha == 0 else "X_sum" if recipe.residual else "X_attn"


def by_variant(dataset: xr.Dataset) -> dict[str, dict[str, str]]:
    """The recipes of the ablation: attention → variant → name, both in the paper's order.

    Raises: `UserError` if the Dataset has none of them.
    """
    names = {
        attention: {
            variant: name
            for variant, (residual, ffn) in recipe_lists.VARIANTS.items()
            if (name := find(dataset, Recipe("", attention, residual=residual, ffn=ffn)))
        }
        for attention in recipe_lists.ATTENTIONS
    }
    names = {attention: variants for attention, variants in names.items() if variants}
    require(names, "an attention with residual and FFN on or off", "ablation")
    return names


def by_alpha(dataset: xr.Dataset) -> dict[str, dict[float, str]]:
    """The recipes X_res + α·X_attn without FFN, at any α above 0: attention → α → name, by rising α.

    Raises: `UserError` if the Dataset has none of them.
    """
    names: dict[str, dict[float, str]] = {attention: {} for attention in recipe_lists.ATTENTIONS}
    for name, recipe in Recipe.from_coords(dataset).items():
        swept = recipe.affinity in names and recipe.alpha > 0
        if swept and recipe.same(Recipe("", recipe.affinity, ffn=False, alpha=recipe.alpha)):
            names[recipe.affinity][recipe.alpha] = name
    names = {attention: dict(sorted(alphas.items())) for attention, alphas in names.items() if alphas}
    require(names, "X_res + alpha X_attn without FFN", "alpha")
    return names


def by_beta(dataset: xr.Dataset) -> dict[str, str]:
    """The recipes with a pruned X_res: β in %, or "norm." for the normalized X_res, → name; by rising β, that one last.

    Raises: `UserError` if the Dataset has none of them.
    """
    names = {
        "norm." if recipe.normalize_residual else f"{100 * recipe.beta:g}": name
        for recipe in recipe_lists.beta()
        if (name := find(dataset, recipe))
    }
    require(names, "q-q attention without FFN and a pruned X_res", "beta")
    return names


def by_layer(dataset: xr.Dataset) -> xr.DataArray:
    """mIoU in % of feature maps as (model, dataset, layer, feature); NaN for layers that a model does not have.

    Raises: `UserError` if the Dataset has no feature map of a layer.
    """
    names = {
        (recipe.layer, feature_of(recipe)): name
        for name, recipe in Recipe.from_coords(dataset).items()
        if recipe.layer and recipe.same(feature_recipe(feature_of(recipe), recipe.layer))
    }
    require(names, "a feature map of a layer", "layers")
    layers = sorted({layer for layer, _ in names})
    values = np.full((dataset.sizes["model"], dataset.sizes["dataset"], len(layers), len(FEATURES)), np.nan)
    for (layer, feature), name in names.items():
        miou = dataset.miou.sel(recipe=name).transpose("model", "dataset")
        values[:, :, layers.index(layer), FEATURES.index(feature)] = miou.values
    coords = {
        "model": dataset.model.values,
        "dataset": dataset.dataset.values,
        "layer": layers,
        "feature": list(FEATURES),
    }
    attrs = {"long_name": "mIoU", "units": "%"}
    return xr.DataArray(values, coords, dims=list(coords), attrs=attrs, name="miou")


def for_mean(dataset: xr.Dataset, paper: Sequence[str] = WITHOUT_BACKGROUND) -> list[str]:
    """The data sets of a mean: the paper's that were measured, or else all without a background class, or else all."""
    measured = dataset.dataset.values.tolist()
    benchmarks = [name for name in paper if name in measured]
    return benchmarks or [name for name in measured if not has_background(name)] or measured


def require(recipes: Collection[Any], what: str, command: str) -> None:
    """Refuse a Dataset without the recipes that a figure shows; raises `UserError` with the command that writes them."""
    if not recipes:
        raise UserError(f"this Dataset has no recipe with {what}; python -m analysis.{command} writes them.")
