"""What an evaluation says in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping

import xarray as xr

from clearclip.methods.recipes import Recipe


def reading(dataset: xr.Dataset) -> list[str]:
    """The best recipe of every model and data set, and how far the next one is behind.

    Recipes that are told the true labels are bounds and take no part, unless there are no others.
    """
    sentences, known = [], Recipe.from_coords(dataset)
    for model in dataset.model.values.tolist():
        for name in dataset.dataset.values.tolist():
            miou = dict(
                zip(
                    dataset.recipe.values.tolist(),
                    dataset.miou.sel(model=model, dataset=name).values.tolist(),
                    strict=True,
                )
            )
            miou = {recipe: value for recipe, value in miou.items() if not known[recipe].needs_truth} or miou
            best = best_recipe(miou)
            others = {recipe: value for recipe, value in miou.items() if recipe != best and not math.isnan(value)}
            sentence = f"Best for {model} on {name}: {best}, {miou[best]:.1f} mIoU"
            if others:
                second = best_recipe(others)
                sentence += f", {miou[best] - others[second]:.1f} more than {second}"
            sentences.append(f"{sentence}.")
    return sentences


def best_recipe(miou: Mapping[str, float]) -> str:
    """The recipe of the highest mIoU; one that was not measured is NaN.

    >>> best_recipe({"clip": 10.0, "sclip": float("nan"), "clearclip": 30.0})
    'clearclip'
    """
    return max(miou, key=lambda recipe: -math.inf if math.isnan(miou[recipe]) else miou[recipe])
