"""Peaks in numbers: which channel holds them how steadily, what share each part has written, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr

from analysis.probes.table import with_origin
from clearclip.errors import UserError

PLACE = ["peak", "peak_channel", "peak_token", "peak_row", "peak_column", "peak_share"]


def kind(token: float, prefix_tokens: int) -> str:
    """What a token is; of the tokens before the patches the first is CLS and the others are registers.

    >>> kind(0, 5), kind(4, 5), kind(5, 5), kind(0, 0)
    ('CLS', 'register', 'patch', 'patch')
    """
    return "patch" if token >= prefix_tokens else "register" if token else "CLS"


def asked(dataset: xr.Dataset) -> xr.Dataset:
    """The peak that was taken apart, with its place, in every picture of one model, (image,).

    Raises: `UserError` if the Dataset does not have it.
    """
    layer, feature = int(dataset.asked_layer), str(dataset.asked_feature.item())
    if layer in dataset.layer and feature in dataset.feature and 1 in dataset["rank"]:
        places = dataset[PLACE].sel(layer=layer, feature=feature, rank=1).dropna("image", subset=["peak"])
        if places.sizes["image"]:
            return places
    raise UserError(f"this Dataset has no peak of {feature} in layer {layer}, which it says was taken apart.")


def shares(dataset: xr.Dataset, variable: str) -> xr.DataArray:
    """What share of the peak each part has written, of one model, a mean over the pictures; negative where it took away.

    Args:
        dataset: of one model.
        variable: `written`, `written_by_head` or `written_by_neuron`.
    """
    peak = asked(dataset).peak.reset_coords(drop=True)
    return (dataset[variable].reset_coords(drop=True) / peak.where(peak != 0)).fillna(0).mean("image")


class Share(NamedTuple):
    """What a component, head or neuron of a layer has written."""

    layer: int
    part: str
    share: float


def ranked(dataset: xr.Dataset, variable: str) -> list[Share]:
    """`shares` one by one, largest magnitude first."""
    values = shares(dataset, variable)
    if variable == "written_by_neuron":
        places: Iterable[tuple[Any, Any]] = zip(dataset.neuron_layer.values, dataset.neuron.values, strict=True)
    else:
        values = values.transpose("layer", ...)
        places = product(values.layer.values, values[values.dims[1]].values)
    every = [
        Share(int(layer), str(part), float(share))
        for (layer, part), share in zip(places, values.values.flat, strict=True)
    ]
    return sorted(every, key=lambda each: -abs(each.share))


def holders(dataset: xr.Dataset) -> pd.DataFrame:
    """The channels that hold the peak of each map, those that hold it in most pictures first.

    Returns: one row per model, layer, feature and channel: in how many `images` it holds the peak and which `steadiness` (their
    share of all pictures) that is, the mean `value` there, in how many pictures it is `positive`, and on how many tokens of
    each kind it stands: `CLS`, `register`, `patch`.
    """
    rows = places(dataset.sel(rank=[1]))
    keys = ["model", "layer", "feature"]
    marks = {name: (rows.kind == name).astype(int) for name in ("CLS", "register", "patch")}
    rows = rows.assign(positive=(rows.value > 0).astype(int), images=1, **marks)
    sums = dict.fromkeys(("images", "positive", *marks), "sum")
    grouped = rows.groupby([*keys, "channel"], sort=False).agg({"value": "mean", **sums}).reset_index()
    grouped["steadiness"] = grouped.images / grouped.groupby(keys, sort=False).images.transform("sum")
    return grouped.sort_values("images", ascending=False, kind="stable").sort_values(
        keys, kind="stable", ignore_index=True
    )


def places(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, image, layer, feature and rank: the value, its channel, its token and the median of its map."""
    frame = dataset[[*PLACE, "median"]].reset_coords(drop=True).to_dataframe().reset_index().dropna(subset="peak")
    frame = frame.rename(columns={"peak": "value"}).rename(columns=lambda name: name.removeprefix("peak_"))
    prefix = dict(zip(dataset.model.values.tolist(), dataset.prefix_tokens.values.tolist(), strict=True))
    kinds = [kind(token, prefix[model]) for token, model in zip(frame.token, frame.model, strict=True)]
    frame = frame.astype({"channel": int, "token": int}).assign(kind=kinds)
    keys = ["model", "image", "layer", "feature", "rank"]
    return frame[[*keys, *(name for name in frame if name not in keys)]]


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """`places`, with a column that says whether the model has random weights."""
    return with_origin(places(dataset), dataset)


def report(dataset: xr.Dataset) -> str:
    """For each model the peaks of the asked map in every layer, and the parts of the one that was taken apart."""
    held = holders(dataset)
    return "\n".join(
        line for model in dataset.model.values.tolist() for line in _of_model(dataset.sel(model=model), model, held)
    )


def _of_model(dataset: xr.Dataset, model: str, held: pd.DataFrame) -> list[str]:
    feature, layer, pictures = dataset.asked_feature.item(), int(dataset.asked_layer), dataset.sizes["image"]
    among = "all tokens" if dataset.among.item() == "all" else "patches"
    size = float(abs(asked(dataset).peak).mean())
    maps = dataset[["peak", "median"]].sel(feature=feature).reset_coords(drop=True).dropna("layer", how="all")
    sizes = abs(maps.peak).mean("image").to_pandas().rename(columns="top-{}".format)
    first = held[(held.model == model) & (held.feature == feature)].groupby("layer").first()
    kinds = first[["CLS", "register", "patch"]]
    table = sizes.assign(
        median=maps["median"].mean("image").to_series(),
        channel=first.channel,
        holds=[f"{images} of {pictures}" for images in first.images],
        on=[", ".join(f"{count} {name}" for name, count in row.items() if count) for _, row in kinds.iterrows()],
    )
    parts = shares(dataset, "written").transpose("layer", "component")
    parts = parts.sel(layer=(parts != 0).any("component"), component=(parts != 0).any("layer"))
    heads, neurons = ranked(dataset, "written_by_head")[:3], ranked(dataset, "written_by_neuron")
    return [
        f"{model}: largest magnitudes of {feature} among {among} [model units], mean over {pictures} images, the channel that most "
        "often holds the peak, and on what",
        table.to_string(float_format="{:.4g}".format),
        f"share of the peak of {feature} in layer {layer} ({size:.4g} on average) that each part has written",
        parts.to_pandas().to_string(float_format="{:.1%}".format),
        "heads: " + ", ".join(f"layer {row.layer} head {row.part} {row.share:.1%}" for row in heads),
        "neurons: " + ", ".join(f"layer {row.layer} neuron {row.part} {row.share:.1%}" for row in neurons),
    ]
