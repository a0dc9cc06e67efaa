"""Sums and confusion matrices of prototype runs → one Dataset over models and data sets, its tables and lines."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from analysis.prototypes.nearest import SIMILARITIES, Prototypes, prototypes
from clearclip.errors import UserError
from clearclip.evaluation.scores import scores
from clearclip.models.block import FEATURES
from clearclip.runs import results
from clearclip.runs.exact_sum import ExactSum

if TYPE_CHECKING:
    from analysis.prototypes.run import Run

SUMS = ("weights", "sums", "squares")
DIMS = {"model", "dataset", "layer", "feature", "similarity", "class"}
ATTRS = {
    "iou": {"long_name": "intersection over union", "units": "%"},
    "miou": {"long_name": "mIoU", "units": "%"},
    "pixel_accuracy": {"long_name": "pixel accuracy", "units": "%"},
    "intersection": {"long_name": "intersection", "units": "pixels"},
    "union": {"long_name": "union", "units": "pixels"},
    "images": {"long_name": "pictures that were segmented", "units": "1"},
    "prototype_images": {"long_name": "pictures that gave the prototypes", "units": "1"},
    "prototype_patches": {"long_name": "labelled patches of each class in the first half", "units": "patches"},
}


def known_from(states: Sequence[xr.Dataset], name: str) -> Prototypes:
    """The prototypes of all sites, from the states of all processes after the first half of a data set of this name."""
    _images(states, 0, name)
    weights, sums, squares = (_total(states, variable) for variable in SUMS)
    if not weights.any():
        raise UserError(f"no pixel of the first half of {name} has a class, so there are no prototypes.")
    return prototypes(weights, sums, squares)


def result(states: Sequence[xr.Dataset], run: "Run") -> xr.Dataset:
    """The Dataset of a run from the states of all its processes."""
    dataset, cell = run.dataset, ("model", "dataset")
    values = scores(np.sum([state.confusion.values for state in states], 0)) | {
        "images": np.array(_images(states, 1, dataset.name)),
        "prototype_images": np.array(_images(states, 0, dataset.name)),
        "prototype_patches": _total(states, "weights"),
    }
    dims = {0: cell, 1: (*cell, "class"), 3: (*cell, "layer", "feature", "similarity")}
    dims[4] = (*dims[3], "class")
    variables = {name: (dims[value.ndim], value[None, None], ATTRS[name]) for name, value in values.items()}
    about: dict[str, Any] = results.about_model(run.model) | {"short_side": run.windows.short_side}
    coords = {name: ("model", [value]) for name, value in about.items()} | {
        "model": [run.model.name],
        "dataset": [dataset.name],
        "layer": ("layer", list(run.layers), {"long_name": "layer", "units": "1"}),
        "feature": list(FEATURES),
        "similarity": list(SIMILARITIES),
        "class": dataset.classes,
        "split": ("dataset", [getattr(dataset, "split", "all")]),
        "data_sha256": ("dataset", [run.digest]),
    }
    skipped = [message for state in states for message in json.loads(state.attrs["skipped"])]
    attrs = {"skipped": json.dumps(skipped), "halves": "prototypes from pictures 0, 2, 4, …, scores of 1, 3, 5, …"}
    return xr.Dataset(variables, coords, attrs | results.provenance())


def _total(states: Sequence[xr.Dataset], name: str) -> np.ndarray:
    """A sum over all processes, the same bits whoever summed what."""
    total = ExactSum.zeros(states[0][name].shape[1:])
    for state in states:
        for part in state[name].values:
            total.add(part)
    return total.value()


def _images(states: Sequence[xr.Dataset], half: int, name: str) -> int:
    """How many pictures of one half were used; `UserError` for none."""
    count = sum(int(state.images[half]) for state in states)
    if not count:
        raise UserError(f"not one picture of the {('first', 'second')[half]} half of {name} could be used.")
    return count


def read(path: Path) -> xr.Dataset:
    """Read a Dataset; raises `UserError` if the file is missing or holds something else."""
    dataset = results.read(path)
    missing = DIMS - set(map(str, dataset.dims))
    if missing:
        raise UserError(
            f"{path} has no dimension {', '.join(sorted(missing))}: analysis.prototypes.__main__ did not write it."
        )
    return dataset


def merge(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join results of several models and data sets; layers and classes that one does not have are NaN there."""
    if len(parts) == 1:
        return parts[0]
    layers = sorted({layer for one in parts for layer in one.layer.values.tolist()})
    classes = list(dict.fromkeys(name for one in parts for name in one["class"].values.tolist()))
    whole = [one.reindex({"layer": layers, "class": classes}) for one in parts]
    how = {"combine_attrs": "override", "coords": "minimal", "compat": "override", "join": "exact"}
    rows = []
    for model in dict.fromkeys(one.model.item() for one in whole):
        same = [one for one in whole if one.model.item() == model]
        rows.append(same[0] if len(same) == 1 else xr.concat(same, "dataset", data_vars="all", **how))  # type: ignore[call-overload]
    joined = rows[0] if len(rows) == 1 else xr.concat(rows, "model", data_vars="all", **how)  # type: ignore[call-overload]
    joined.attrs["skipped"] = json.dumps([message for one in parts for message in json.loads(one.attrs["skipped"])])
    return joined


# in words and tables --------------------------------------------------------------------------------------------------


def panels(dataset: xr.Dataset) -> Iterator[xr.Dataset]:
    """What belongs to one model and data set, one after another, without the layers that the model does not have."""
    for model in dataset.model.values:
        for name in dataset.dataset.values:
            one = dataset.sel(model=model, dataset=name)
            yield one.sel(layer=one.miou.notnull().any(("feature", "similarity")))


def table(one: xr.Dataset) -> pd.DataFrame:
    """mIoU in percent of one model and data set: a row a layer, a column a similarity and feature."""
    values = one.miou.transpose("layer", "similarity", "feature")
    return values.stack(column=("similarity", "feature")).reset_coords(drop=True).to_pandas()


def summary(one: xr.Dataset) -> list[str]:
    """What the numbers of one model and data set say: the best map, the last layer, and what could not be told."""
    lines = []
    last = one.isel(layer=-1)
    for similarity in one.similarity.values.tolist():
        miou = one.miou.sel(similarity=similarity)
        best = miou.isel(miou.argmax(("layer", "feature")))
        end = [f"{name} {last.miou.sel(similarity=similarity, feature=name).item():.1f}" for name in FEATURES]
        lines.append(
            f"{similarity}: best {best.feature.item()} of layer {best.layer.item()}, {best.item():.1f} mIoU; "
            f"last layer: {', '.join(end)}"
        )
    there = one.union.isel(layer=0, feature=0, similarity=0) > 0
    unseen = one["class"][(one.prototype_patches == 0) & there].values.tolist()
    if unseen:
        lines.append(f"not in the first half, so never found: {', '.join(unseen)}")
    return lines


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row a model, data set, layer, feature, similarity and class, with the class "mean" for the mIoU."""
    each = dataset[["iou", "intersection", "union", "random_weights"]].to_dataframe().reset_index()
    mean = dataset[["miou", "pixel_accuracy", "random_weights"]].to_dataframe().reset_index()
    mean = mean.rename(columns={"miou": "iou"}).assign(**{"class": "mean"})
    rows = pd.concat([mean, each], ignore_index=True).dropna(subset="iou")
    names = ["model", "dataset", "layer", "feature", "similarity", "class"]
    return rows[[*names, "iou", "pixel_accuracy", "intersection", "union", "random_weights"]]
