"""Label maps beside photo and true labels (paper Figs. 1, 3, 7, 10 and 11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.legends import shipped
from analysis.sweeps.labels import dataset_label
from clearclip.errors import UserError
from clearclip.methods.titles import method_label
from clearclip.segmentation.overlay import Row, draw_rows, explained, titles


def label_maps(
    dataset: xr.Dataset,
    recipes: Sequence[str] | None = None,
    images: Sequence[int] | None = None,
    width: float | None = None,
) -> Figure:
    """Figs. 7, 10, 11: one row per picture (and model), columns photo, ground truth and recipes, one legend.

    Args:
        dataset: as `analysis.probes.label_maps.label_maps` gives it, of one or several models.
        recipes: names of recipes in the Dataset, by default all.
        images: which pictures, counted from 0, by default all.
        width: of the whole figure in inches; by default the columns are as wide as can be looked at.

    Raises: `UserError` if the Dataset lacks one of the recipes.
    """
    models = dataset.model.values.tolist()
    lines = [
        replace(row, name=model if len(models) > 1 else "")
        for model in models
        for row in rows(dataset, model, recipes, images)
    ]
    headings = [heading(dataset, model) for model in models]
    columns = len(titles(lines[0]))
    column_width = min(1.9, 11 / columns) if width is None else width / columns
    colors = explained(lines, dataset["class"].values.tolist())
    title = "\n".join(line for line, _ in headings)
    return draw_rows(lines, colors, title, any(warn for _, warn in headings), column_width)


def rows(
    dataset: xr.Dataset,
    model: str | None = None,
    recipes: Sequence[str] | None = None,
    images: Sequence[int] | None = None,
    truth: bool = True,
) -> list[Row]:
    """The pictures with their true labels and label maps at their own size, for `clearclip.segmentation.overlay`.

    Raises: `UserError` if the Dataset lacks one of the recipes.
    """
    known = dataset.recipe.values.tolist()
    missing = [name for name in recipes or () if name not in known]
    if missing:
        raise UserError(f"this Dataset has no label maps of {', '.join(missing)}, but of {', '.join(known)}.")
    of_model = dataset.sel(model=dataset.model.values[0] if model is None else model)
    lines = []
    for image in range(dataset.sizes["image"]) if images is None else images:
        cut = of_model.isel(image=image)
        cut = cut.isel(row=slice(int(cut.height)), column=slice(int(cut.width)))
        maps = {method_label(name): cut.labels.sel(recipe=name).values for name in recipes or known}
        accuracy = {}
        if truth and "pixel_accuracy" in cut:
            accuracy = {method_label(name): float(cut.pixel_accuracy.sel(recipe=name)) for name in recipes or known}
        labels = cut.truth.values if truth and "truth" in cut else None
        lines.append(Row(cut.picture.values, maps, labels, accuracy=accuracy))
    return lines


def heading(dataset: xr.Dataset, model: str | None = None) -> tuple[str, bool]:
    """One line that says which model and pictures are shown, and whether the weights are random."""
    of_model = dataset.sel(model=dataset.model.values[0] if model is None else model)
    random = bool(of_model.random_weights)
    source = dataset_label(str(dataset.attrs.get("dataset", ""))).replace("\n", " ")
    parts = [str(of_model.model.values), *([source] if source else [])]
    if random:
        parts.append("RANDOM WEIGHTS, the picture means nothing")
    elif shipped(of_model):
        parts.append("a small model trained on drawn scenes, shipped with the toolkit")
    return " · ".join(parts), random
