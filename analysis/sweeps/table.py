"""Tables of a sweep: mIoU measured beside published, and by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import xarray as xr

from analysis.sweeps import published
from analysis.sweeps.read import by_layer, find, for_mean
from clearclip.evaluation.protocol import of_dataset
from clearclip.methods.recipes import Recipe
from clearclip.methods.titles import METHOD_LABEL, method_label
from clearclip.models.block import FEATURES

MEASURED, PUBLISHED, DIFFERENCE = "measured", "published", "difference"


def beside(
    dataset: xr.Dataset,
    printed: pd.DataFrame,
    recipes: Sequence[Recipe],
    columns: Sequence[str],
    mean_of: Sequence[str],
) -> pd.DataFrame:
    """Measured beside published mIoU in %: for each method and model a row `measured`, `published`, `difference`.

    Args:
        dataset: of a sweep.
        printed: published numbers in the form of `published.table`; they give the order.
        recipes: the recipes to show; what was measured and is not in `printed` follows below it.
        columns: names of data sets.
        mean_of: names of data sets whose mean is shown where all of them are known.

    Returns: columns recipe, method, model, numbers, the data sets by their own names, and "mean of k" if k > 1.
    """
    names = {recipe.name: name for recipe in recipes if (name := find(dataset, recipe))}
    waiting = {(model, recipe): None for model in dataset.model.values.tolist() for recipe in names}
    groups = [rows for _, rows in printed.groupby(["method", "encoder", "recipe"], sort=False, dropna=False)]
    matched: dict[int, tuple[str, str]] = {}  # first row of a group → model and recipe
    for rows in sorted(groups, key=lambda rows: not rows.origin.iloc[0].startswith("run")):
        place = (rows.model.iloc[0], rows.recipe.iloc[0])
        if place in waiting:  # the first group takes the measured numbers: one that was run goes before a quoted one
            del waiting[place]
            matched[rows.index[0]] = place
    blocks: list[tuple[dict[str, Any], dict[str, float], tuple[str, str] | None]] = []
    for rows in sorted(groups, key=lambda rows: rows.index[0]):
        first = rows.iloc[0]
        model = first.model if isinstance(first.model, str) else first.encoder
        head = {"recipe": first.recipe, "method": first.method, "model": model}
        blocks.append((head, dict(zip(rows.dataset, rows.miou, strict=True)), matched.get(rows.index[0])))
    for model, recipe in waiting:
        blocks.append(({"recipe": recipe, "method": method_label(recipe), "model": model}, {}, (model, recipe)))
    lines: list[dict[str, Any]] = []
    for head, numbers, key in blocks:
        values = {PUBLISHED: _row(numbers, columns, mean_of)}
        if key is not None:
            miou = dataset.miou.sel(model=key[0], recipe=names[key[1]])
            own = {name: float(miou.sel(dataset=name)) for name in dataset.dataset.values.tolist()}
            values = {MEASURED: _row(own, columns, mean_of), **values}
            values[DIFFERENCE] = {name: values[MEASURED][name] - values[PUBLISHED][name] for name in values[MEASURED]}
        lines += [
            {**head, "numbers": kind, **row}
            for kind, row in values.items()
            if kind == MEASURED or any(cell == cell for cell in row.values())
        ]
    return pd.DataFrame(lines)


def _row(values: dict[str, float], columns: Sequence[str], mean_of: Sequence[str]) -> dict[str, float]:
    """One line's numbers, NaN where there is none."""
    row = {name: values.get(name, float("nan")) for name in columns}
    if len(mean_of) > 1:
        row[f"mean of {len(mean_of)}"] = sum(values.get(name, float("nan")) for name in mean_of) / len(mean_of)
    return row


def printed(dataset: xr.Dataset) -> pd.DataFrame:
    """The published numbers of a sweep's models, methods and data sets in its own protocol, one for each."""
    known = published.everything()
    for column in ("model", "dataset", "recipe"):
        known = known[known[column].isin(dataset[column].values.tolist())]
    return known[known.protocol == of_dataset(dataset)].drop_duplicates(["model", "recipe", "dataset"])


def sources(dataset: xr.Dataset) -> list[str]:
    """Where the published numbers beside a sweep's were printed, a line for each place and who measured them."""
    known = printed(dataset)
    return [
        f"published in {_cited(str(source))} ({origin}): {', '.join(dict.fromkeys(map(method_label, rows.recipe)))}"
        for (source, origin), rows in known.groupby(["source", "origin"], sort=False)
    ]


def _cited(source: str) -> str:
    """A table's name with its paper."""
    return f"ClearCLIP (ECCV 2024), {source}" if source.startswith(("Table", "Fig.")) else source


def methods(dataset: xr.Dataset) -> pd.DataFrame:
    """Rows are models and methods, each measured, published and their difference; columns are data sets; mIoU in %.

    Published are numbers of the same protocol only.
    """
    recipes = list(Recipe.from_coords(dataset).values())
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    known = printed(dataset)
    known = known.assign(encoder=known.model, method=known.recipe.replace(METHOD_LABEL), origin="run")
    rows = beside(dataset, known, recipes, names, for_mean(dataset))
    order = {name: place for names in ([recipe.name for recipe in recipes], models) for place, name in enumerate(names)}
    rows = rows.sort_values(["model", "recipe"], key=lambda column: column.map(order), kind="stable")
    return rows.drop(columns="recipe").set_index(["model", "method", "numbers"])


def layers(dataset: xr.Dataset) -> pd.DataFrame:
    """Rows are layers; columns are model, data set and feature; mIoU in %."""
    wide = by_layer(dataset).to_series().unstack(["model", "dataset", "feature"])
    order = [(m, d, f) for m in dataset.model.values for d in dataset.dataset.values for f in FEATURES]
    return wide[order].dropna(axis=1, how="all")
