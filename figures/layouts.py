"""The paper's Tables 1 to 5 as DataFrames: measured mIoU, the published one and their difference."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import xarray as xr

from analysis.plots.legends import images, shipped
from analysis.sweeps import published, recipe_lists
from analysis.sweeps.labels import dataset_label
from analysis.sweeps.read import by_beta, for_mean
from analysis.sweeps.table import DIFFERENCE, MEASURED, PUBLISHED, beside
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.methods.titles import METHOD_LABEL

PAPER = "clip_vitb16"
ADDED_TO = (  # of Table 5
    "clip",
    "clearclip",
    *(name for base in ("maskclip", "sclip", "gem") for name in (base, f"{base}+clearclip")),
)


def table_1(dataset: xr.Dataset) -> pd.DataFrame:
    """Rows are models and the four variants, each measured, published, difference; columns are datasets; mIoU in %."""
    recipes = {recipe.name: recipe for recipe in recipe_lists.ablation() if recipe.affinity == "qq"}
    names = columns(dataset, published.WITHOUT_BACKGROUND, background=False)
    rows = beside(dataset, published.table(1), list(recipes.values()), names, published.WITHOUT_BACKGROUND)
    for place, (column, knob) in enumerate((("RC", "residual"), ("FFN", "ffn"))):
        rows.insert(place, column, ["on" if getattr(recipes[name], knob) else "off" for name in rows.recipe])
    rows.insert(0, "attention", "q-q")
    return finished(rows, dataset, ["model", "attention", "RC", "FFN", "numbers"], names)


def table_2(dataset: xr.Dataset) -> pd.DataFrame:
    """Rows are methods and models, each measured, published, difference; columns are datasets; mIoU in %."""
    return _methods(dataset, 2, published.WITHOUT_BACKGROUND, background=False)


def table_3(dataset: xr.Dataset) -> pd.DataFrame:
    """As Table 2, for the benchmarks with a background class."""
    return _methods(dataset, 3, published.WITH_BACKGROUND, background=True)


def _methods(dataset: xr.Dataset, number: int, benchmarks: Sequence[str], background: bool) -> pd.DataFrame:
    recipes = [recipe for recipe in recipe_lists.compare() if not recipe.name.endswith("+clearclip")]
    names = columns(dataset, benchmarks, background)
    rows = beside(dataset, published.table(number), recipes, names, benchmarks)
    return finished(rows, dataset, ["method", "model", "numbers"], names)


def table_4(dataset: xr.Dataset) -> pd.DataFrame:
    """Rows are models, measured, published, difference; columns are β in % and the normalised X_res; mean mIoU in %."""
    datasets, by_name = for_mean(dataset, published.BENCHMARKS), Recipe.from_coords(dataset)
    recipes = {label: (name, by_name[name]) for label, name in by_beta(dataset).items()}
    numbers = {label: published.mean(PAPER, published.BENCHMARKS, recipe) for label, (_, recipe) in recipes.items()}
    printed = {label: number for label, number in numbers.items() if number is not None}
    whole = set(datasets) == set(published.BENCHMARKS)
    rows = []
    for model in dataset.model.values.tolist():
        means = dataset.miou.sel(model=model, dataset=datasets).mean("dataset", skipna=False)
        measured = {label: float(means.sel(recipe=name)) for label, (name, _) in recipes.items()}
        about = {"model": model, "mean of": len(datasets)}
        rows.append({**about, "numbers": MEASURED, **measured})
        if model == PAPER and whole:
            difference = {label: measured[label] - printed[label] for label in printed}
            rows.append({**about, "numbers": PUBLISHED, **printed})
            rows.append({**about, "numbers": DIFFERENCE, **difference})
    if PAPER not in dataset.model.values or not whole:
        rows.insert(0, {"model": PAPER, "mean of": len(published.BENCHMARKS), "numbers": PUBLISHED, **printed})
    return finished(pd.DataFrame(rows), dataset, ["model", "mean of", "numbers"], datasets)


def table_5(dataset: xr.Dataset) -> pd.DataFrame:
    """Rows are models and methods without and with ClearCLIP, each measured, published, difference; mIoU in %."""
    names = columns(dataset, published.WITHOUT_BACKGROUND, background=False)
    recipes = [RECIPES[name] for name in ADDED_TO]
    rows = beside(dataset, published.table(5), recipes, names, published.WITHOUT_BACKGROUND)
    rows["method"] = rows.recipe.map({**METHOD_LABEL, "clip": "unchanged"})
    order = {model: place for place, model in enumerate(dict.fromkeys(rows.model))}
    rows = rows.sort_values("model", key=lambda column: column.map(order), kind="stable")
    return finished(rows, dataset, ["model", "method", "numbers"], names)


def columns(dataset: xr.Dataset, benchmarks: Sequence[str], background: bool) -> list[str]:
    """The paper's benchmarks of a table, then what else was measured with, or without, a background class."""
    others = [name for name in dataset.dataset.values.tolist() if name not in published.BENCHMARKS]
    return [*benchmarks, *(name for name in others if published.has_background(name) == background)]


def finished(table: pd.DataFrame, dataset: xr.Dataset, index: Sequence[str], datasets: Sequence[str]) -> pd.DataFrame:
    """The table with its index, readable dataset names, random weights named, and a note of what it was measured on."""
    random = dataset.model.values[dataset.random_weights.values.astype(bool)].tolist()
    rows = table.assign(model=table.model.replace({model: f"{model} (random weights)" for model in random}))
    rows = rows.set_index(list(index)).drop(
        columns=[name for name in ("recipe", "method") if name in table and name not in index]
    )
    rows.columns = [dataset_label(str(column)).replace("\n", " ") for column in rows.columns]
    names = [name for name in datasets if name in dataset.dataset]
    note = f"mIoU in %. Measured on {images(dataset, names) if names else 'none of these datasets'}."
    small = shipped(dataset)
    rows.attrs["note"] = f"{note} {small}." if small else note
    return rows
