"""Any Dataset of ours as a pandas table that can be looked at: `analysis.table(result)`."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from analysis.probes import over_images
from analysis.probes.attention import patches_covered
from analysis.probes.feature_maps import peaks
from clearclip.errors import UserError
from clearclip.evaluation.table import table as miou_table
from clearclip.runs.validation import check, kind_of


def table(dataset: xr.Dataset, tokens: str = "patches") -> pd.DataFrame:
    """The numbers of a result with two dimensions only: rows are cases, columns are what was measured.

    Args:
        dataset: of `collect`, `evaluate`, a sweep, prototypes, texts of heads, or label, attention or feature maps.
        tokens: "patches" or "all", for statistics.

    Returns: for statistics one row per model, layer and feature with means over the pictures; mIoU in %, one row per model
    and recipe, or model, data set, layer and feature or head; for texts one row per model, layer and head; for maps one row per
    model and picture, or per layer and head.
    Raises: `UserError` for a Dataset that is none of these.

    >>> import clearclip
    >>> from analysis import collect
    >>> table(collect(clearclip.load("clip_tiny", random=True), limit=2, progress=False)).columns.tolist()
    ['entropy', 'maximum', 'frobenius_norm']
    """
    kind, measures = kind_of(dataset), set(dataset.data_vars)
    if kind:
        check(dataset, kind, whole=False)
    if kind in ("prototypes", "head prototypes") and "miou" in measures:
        return dataset.miou.reset_coords(drop=True).to_series().unstack("similarity").dropna(how="all")
    if kind == "texts of heads" and "text" in measures:
        return dataset.text.reset_coords(drop=True).to_series().unstack("rank")
    if kind == "sweep" and "miou" in measures:
        return miou_table(dataset)
    if kind == "label maps" and "pixel_accuracy" in measures:
        accuracy = dataset.pixel_accuracy.reset_coords(drop=True).transpose("model", "image", "recipe")
        return accuracy.to_series().unstack("recipe")
    if kind == "attention" and "attention" in measures:
        covered = patches_covered(dataset).reset_coords(drop=True)
        return covered.mean("image").to_series().unstack("head").dropna(how="all")
    if kind == "feature maps" and "feature_map" in measures:
        return peaks(dataset.feature_map).set_index(["model", "image", "layer", "feature", "rank"])
    measured = {
        str(name): values for name, values in dataset.data_vars.items() if {"image", "moment"} & set(values.dims)
    }
    if kind in ("statistics", "stream statistics") and measured:
        if tokens not in dataset.tokens.values:
            raise UserError(f"tokens {tokens!r}: the Dataset has {', '.join(map(str, dataset.tokens.values))}.")
        means = xr.Dataset({name: over_images.mean(values) for name, values in measured.items()})
        means = means.sel(tokens=tokens, drop=True).reset_coords(drop=True)
        return means.to_dataframe(dim_order=["model", "layer", "feature"]).dropna(how="all")
    raise UserError(f"a Dataset with dimensions {', '.join(map(str, dataset.dims))} is none that has a table here.")
