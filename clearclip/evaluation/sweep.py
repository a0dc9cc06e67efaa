"""Models × data sets × recipes → one Dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from clearclip.datasets import LabelledPictures
from clearclip.evaluation.run import evaluate
from clearclip.evaluation.table import merge
from clearclip.methods.recipes import Recipe
from clearclip.models.backbone import Backbone
from clearclip.runs.pairs import measure_pairs

Recipes = Sequence[str | Recipe] | Callable[[Backbone], Sequence[str | Recipe]]


def evaluate_sweep(
    loaders: Sequence[Callable[[], Backbone]],
    datasets: Sequence[LabelledPictures],
    recipes: Recipes,
    output: Path,
    **how: Any,
) -> xr.Dataset:
    """Evaluate all recipes in one pass per model and data set; interrupted, the same call continues.

    Args:
        loaders: one function per model, as `clearclip.models.load` makes them, so that one model is in memory at a time.
        datasets: what `clearclip.datasets.load` gives.
        recipes: a list, or a function that makes one for a model.
        output: where the Dataset will be written. Unfinished runs are kept beside it until `unfinished_files.write_result`.
        how: further arguments of `evaluate`.

    Returns: what `merge` makes of the results; for a single one, the result itself.
    Raises: `UserError` as `evaluate` does; under torchrun `Finished` in all processes but the first.
    """

    def measure(model: Backbone, dataset: LabelledPictures, unfinished: Path) -> xr.Dataset:
        methods = recipes(model) if callable(recipes) else recipes
        return evaluate(model, dataset, methods, unfinished=unfinished, **how)

    return measure_pairs(loaders, datasets, output, measure, merge)
