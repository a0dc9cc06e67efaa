"""The Dataset of statistics: its schema, how it is read, merged and finished. The format is a promise.

Dimensions `model`, `image`, `layer` (1 … L), `feature` (X_res, X_attn, X_sum), `tokens` (patches, all), `channel`,
`token`. Statistics of single images are float32 (model, image, layer, feature, tokens); averages over images are
(model, layer, feature, tokens, channel or token). What a model of smaller depth or width lacks is NaN. Along `model`
lie its weights, their SHA-256, whether they are random, precision, preprocessing and grid; the attributes hold library
versions, the digest of the pictures' contents, the command line and the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from clearclip.errors import UserError
from clearclip.runs import results, validation
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.formats import FORMATS
from clearclip.runs.records import DIM

SUM = "_sum"  # variables of an unfinished run that hold sums over images, as two float64 parts


def read(path: Path) -> xr.Dataset:
    """Read a Dataset, also one of a stream; raises `UserError` if the file is missing or does not hold statistics."""
    dataset = results.read(path)
    validation.check(dataset, "stream statistics" if "moment" in dataset.dims else "statistics", path)
    return dataset


MAPS = {  # the variable of a Dataset of maps → what its format is called
    "attention": "attention",
    "attribution": "attribution",
    "feature_map": "feature maps",
    "pca": "PCA maps",
    "peak": "peaks",
    "similarity": "similarity",
}


def require_maps(dataset: xr.Dataset, variable: str) -> None:
    """Refuse a Dataset without one of `MAPS`; raises `UserError` with the command that writes it."""
    if variable not in dataset:
        kind = FORMATS[MAPS[variable]]
        raise UserError(f"this Dataset has no {kind.title}: write it with {kind.command}.")


def read_maps(variable: str, path: Path) -> xr.Dataset:
    """Read a Dataset of one of `MAPS`; raises `UserError` for another file."""
    return results.read(path, MAPS[variable])


def merge_models(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join results of several models along `model`; what a shallower or narrower one lacks is NaN.

    Raises: `UserError` if they hold different statistics or are of different pictures.
    """
    if len(datasets) == 1:
        return datasets[0]
    variables = [set(dataset.data_vars) for dataset in datasets]
    if any(names != variables[0] for names in variables):
        raise UserError("these results hold different statistics, so they cannot be merged.")
    if len({dataset.attrs.get("compiled") for dataset in datasets}) > 1:
        raise UserError(
            "some of these results were measured with --compiled: measure all of them in the same way to merge them."
        )
    results.refuse_other_data("pictures", (dataset.attrs.get("image_list_sha256", "") for dataset in datasets))
    merged = xr.concat(
        datasets,
        dim="model",
        join="outer",
        combine_attrs="override",
        data_vars="all",
        coords="minimal",
        compat="override",
    )
    return merged.assign_attrs(skipped=results.skipped(datasets)) if "skipped" in merged.attrs else merged


def finish(states: Sequence[xr.Dataset], model: str) -> xr.Dataset:
    """The statistics of one run of a model of this name, from the states of all its processes."""
    used = [
        state.drop_dims(DIM) for state in states if state.sizes["image"]
    ]  # a share may have had no picture that could be read
    joined = xr.concat(
        used, dim="image", data_vars="minimal", coords="minimal", compat="override", combine_attrs="override"
    ).sortby("position")
    sums = [str(name) for name in joined.data_vars if str(name).endswith(SUM)]
    result = joined.drop_vars([*sums, "position"])
    for name in sums:
        total = ExactSum.of_parts((state[name].values for state in used), joined[name].shape[1:])
        mean = (total.value() / joined.sizes["image"]).astype(np.float32)
        result[name.removesuffix(SUM)] = (joined[name].dims[1:], mean, joined[name].attrs)
    axes = {dim: np.arange(result.sizes[dim]) for dim in ("channel", "token") if dim in result.dims}
    return result.drop_attrs(deep=False).expand_dims(model=[model]).assign_coords(axes)
