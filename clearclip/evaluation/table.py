"""Results of evaluations: joined over models and data sets, as a table of means, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from clearclip.errors import of_file
from clearclip.evaluation.protocol import of_dataset
from clearclip.methods.recipes import Recipe
from clearclip.runs import results as files
from clearclip.runs.results import by_model, joined, skipped

LEVELS = ("threshold", "scale")  # of a data set and recipe, whatever the model


def read(path: Path, kind: str = "sweep") -> xr.Dataset:
    """Read a Dataset of recipes: a sweep, or another kind that has them.

    Raises: `UserError` if the file is missing or holds something else, or a recipe that cannot be.
    """
    dataset = files.read(path, kind)
    with of_file(path):
        Recipe.from_coords(dataset)
    return dataset


def merge(results: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join results of several models and data sets; classes and recipes that one does not have are NaN there.

    The confusion matrices and what is kept of every picture are left out: they are large, and joined ones would be mostly empty.
    """
    about = [str(name) for name, axis in results[0].coords.items() if axis.dims == ("recipe",) and name != "recipe"]
    knobs = {recipe: result.sel(recipe=recipe) for result in results for recipe in result.recipe.values.tolist()}
    classes = list(dict.fromkeys(name for result in results for name in result["class"].values.tolist()))
    parts = [
        result.drop_vars([*about, "confusion", "predicted"])
        .drop_dims("image", errors="ignore")
        .reindex({"recipe": list(knobs), "class": classes})
        for result in results
    ]
    rows = by_model(parts)
    result = joined(rows, "model")
    result.attrs["skipped"] = skipped(results)
    for row in rows[1:]:  # a recipe may be one of a later model only
        for name in LEVELS:
            result[name] = result[name].fillna(row[name])
    return result.assign_coords(
        {
            name: ("recipe", np.array([knob[name].item() for knob in knobs.values()]), results[0][name].attrs)
            for name in about
        }
    )


def table(dataset: xr.Dataset) -> pd.DataFrame:
    """mIoU in percent: one row per model and recipe, one column per data set, and their average where there are several."""
    means = dataset.miou.stack(row=("model", "recipe")).transpose("row", "dataset").reset_coords(drop=True).to_pandas()
    return means.assign(average=means.mean(axis=1, skipna=False)) if means.shape[1] > 1 else means


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, data set, recipe and class, with the class "mean" for the mIoU; random weights are marked."""
    knobs = [str(name) for name, values in dataset.coords.items() if values.dims == ("recipe",) and name != "recipe"]
    about = [*knobs, "random_weights", *(["protocol"] if "protocol" in dataset.coords else [])]
    each = dataset[["iou", "intersection", "union", *about]].to_dataframe().reset_index()
    mean = dataset[["miou", "pixel_accuracy", *about]].to_dataframe().reset_index().rename(columns={"miou": "iou"})
    rows = pd.concat([mean.assign(**{"class": "mean"}), each], ignore_index=True).dropna(subset="iou")
    first = ["model", "dataset", "recipe", "class", "iou", "pixel_accuracy", "intersection", "union"]
    return rows[[*first, *about]]


def report(dataset: xr.Dataset, rows: pd.DataFrame | None = None) -> str:
    """How many pictures of what, and the mIoU in percent as text; `rows` takes the place of `table`."""
    counts = zip(dataset.dataset.values, dataset.images.values[0], strict=True)
    pictures = ", ".join(f"{int(count)} of {name}" for name, count in counts)
    wide = table(dataset) if rows is None else rows
    protocol = f", protocol {name}" if (name := of_dataset(dataset)) else ""
    return f"mIoU in percent{protocol}, {pictures}\n" + wide.to_string(
        float_format=lambda value: f"{value:.1f}", na_rep=""
    )
