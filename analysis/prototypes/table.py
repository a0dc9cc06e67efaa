"""Results of prototype runs: one Dataset over models and data sets, its tables and lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import xarray as xr

from clearclip.runs import results, validation


def read(path: Path) -> xr.Dataset:
    """Read a Dataset, of feature maps or of heads; raises `UserError` if the file is missing or holds something else."""
    dataset = results.read(path)
    kind = validation.kind_of(dataset, path)
    validation.check(dataset, kind if kind == "head prototypes" else "prototypes", path)
    return dataset


def place(dataset: xr.Dataset) -> str:
    """The dimension of the places within a layer: "feature" or "head"."""
    return "head" if "head" in dataset.dims else "feature"


def title(site: xr.DataArray) -> str:
    """One place of one layer in words.

    >>> title(xr.DataArray(0, {"head": 3, "layer": 5})), title(xr.DataArray(0, {"feature": "X_sum", "layer": 5}))
    ('head 3 of layer 5', 'X_sum of layer 5')
    """
    where = f"head {site['head'].item()}" if "head" in site.coords else site.feature.item()
    return f"{where} of layer {site.layer.item()}"


def merge(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join results of several models and data sets; layers, heads and classes that one does not have are NaN there."""
    counted = ("layer", "head") if place(parts[0]) == "head" else ("layer",)
    axes = {dim: sorted({label for part in parts for label in part[dim].values.tolist()}) for dim in counted}
    classes = list(dict.fromkeys(name for part in parts for name in part["class"].values.tolist()))
    whole = [part.reindex(axes | {"class": classes}) for part in parts]
    joined = results.joined(results.by_model(whole), "model")
    joined.attrs["skipped"] = results.skipped(parts)
    return joined


# in words and tables --------------------------------------------------------------------------------------------------


def panels(dataset: xr.Dataset) -> Iterator[xr.Dataset]:
    """What belongs to one model and data set, one after another, without the layers and heads that the model does not have."""
    for model in dataset.model.values:
        for name in dataset.dataset.values:
            panel = dataset.sel(model=model, dataset=name)
            there, of_layer = panel.miou.notnull(), place(panel)
            yield panel.sel(
                {"layer": there.any((of_layer, "similarity")), of_layer: there.any(("layer", "similarity"))}
            )


def table(panel: xr.Dataset) -> pd.DataFrame:
    """mIoU in percent of one model and data set: one row per layer, one column per similarity and feature or head."""
    values = panel.miou.transpose("layer", "similarity", place(panel))
    return values.stack(column=("similarity", place(panel))).reset_coords(drop=True).to_pandas()


def summary(panel: xr.Dataset) -> list[str]:
    """What the numbers of one model and data set say: the best map, the last layer, and what could not be told."""
    lines = []
    last, where = panel.isel(layer=-1), place(panel)
    for similarity in panel.similarity.values.tolist():
        miou = panel.miou.sel(similarity=similarity)
        best = miou.isel(miou.argmax(("layer", where)))
        if where == "head":
            end = f"best {last.miou.sel(similarity=similarity).max().item():.1f}"
        else:
            end = ", ".join(
                f"{name} {last.miou.sel(similarity=similarity, feature=name).item():.1f}"
                for name in panel.feature.values
            )
        lines.append(f"{similarity}: best {title(best)}, {best.item():.1f} mIoU; last layer: {end}")
    there = panel.union.isel({"layer": 0, where: 0, "similarity": 0}) > 0
    unseen = panel["class"][(panel.prototype_patches == 0) & there].values.tolist()
    if unseen:
        lines.append(f"not in the first half, so never found: {', '.join(unseen)}")
    return lines


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, data set, layer, feature or head, similarity and class, with the class "mean" for the mIoU."""
    each = dataset[["iou", "intersection", "union", "random_weights"]].to_dataframe().reset_index()
    mean = dataset[["miou", "pixel_accuracy", "random_weights"]].to_dataframe().reset_index()
    mean = mean.rename(columns={"miou": "iou"}).assign(**{"class": "mean"})
    rows = pd.concat([mean, each], ignore_index=True).dropna(subset="iou")
    names = ["model", "dataset", "layer", place(dataset), "similarity", "class"]
    return rows[[*names, "iou", "pixel_accuracy", "intersection", "union", "random_weights"]]


def report(dataset: xr.Dataset) -> str:
    """A table and a few lines for every model and data set."""
    parts = []
    for panel in panels(dataset):
        parts.append(
            f"{panel.model.item()} on {panel.dataset.item()}, short side {int(panel.short_side)} px: mIoU in percent of "
            f"{int(panel.images)} pictures, prototypes from {int(panel.prototype_images)} others"
        )
        parts.append(table(panel).to_string(float_format=lambda value: f"{value:.1f}", na_rep=""))
        parts.append("\n".join(summary(panel)) + "\n")
    return "\n".join(parts).rstrip("\n")
