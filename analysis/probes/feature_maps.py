"""The feature maps themselves, and their strongest channels (paper Fig. 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from analysis.probes import images as image_source
from analysis.probes.collection import describe_model
from analysis.probes.probe import Probe
from analysis.probes.table import with_origin
from clearclip.models.block import FEATURES
from clearclip.models.finite import feature_sites, require_finite
from clearclip.models.memory import refuse_too_large
from clearclip.models.wrap import ModelLike, as_backbone


def feature_maps(
    model: ModelLike,
    images: Any,
    layers: Sequence[int] | None = None,
    image_size: int | None = None,
) -> xr.Dataset:
    """X_res, X_attn and X_sum whole, of few pictures and layers.

    Args:
        images: any kind of pictures, see `analysis.probes.images.pictures`.
        layers: counted from 1; None for the last.
        image_size: side in pixels; None for the weights' own.

    Returns: `feature_map` (model, image, layer, feature, token, channel) float32.
    """
    model, pictures = as_backbone(model), image_source.pictures(images)
    layers = layers or (model.depth,)
    refuse_too_large(model, image_size)
    transform = model.transform(image_size)
    probe: Probe[torch.Tensor] = Probe(model, layers, keep=True)
    maps = []
    with torch.inference_mode(), probe:
        for picture in pictures:
            sites = probe.run(transform(picture.read())[None]).values()
            maps.append(torch.cat([x.float().cpu() for x in sites]))  # (layer · feature, T, D)
            finite = maps[-1].isfinite().all(-1).all(-1)
            require_finite(finite[None], [picture.name], feature_sites(layers, FEATURES), model)
    values = torch.stack(maps).unflatten(1, (len(layers), len(FEATURES))).numpy()[None]
    dims = ("model", "image", "layer", "feature", "token", "channel")
    dataset = xr.Dataset(
        {"feature_map": (dims, values, {"long_name": "feature map", "units": "model units"})},
        {
            "model": [model.name],
            "image": [picture.name for picture in pictures],
            "layer": list(layers),
            "feature": list(FEATURES),
            "token": np.arange(values.shape[-2]),
            "channel": np.arange(values.shape[-1]),
        },
    )
    return describe_model(dataset, model, image_size, pictures)


def peaks(values: xr.DataArray, count: int = 3) -> pd.DataFrame:
    """The channels with the largest absolute entry of each map: channel, that entry, its token, and the map's median.

    Args:
        values: (model, image, layer, feature, token, channel).
        count: how many channels of each map.

    Returns: one row per model, image, layer, feature and rank; `median` is the median absolute entry, in model units.
    """
    rows = []
    stacked = values.stack(site=("model", "image", "layer", "feature")).transpose("site", "token", "channel")
    for site, feature_map in zip(stacked.site.values, stacked.values, strict=True):
        x = feature_map[:, np.isfinite(feature_map).any(0)]  # beside a wider model the missing channels are NaN …
        x = x[np.isfinite(x).all(1)]  # … and beside one with more tokens the missing tokens
        if not x.size:
            continue
        size = np.abs(x)
        for rank, channel in enumerate(np.argsort(-size.max(0))[:count], 1):
            token = int(size[:, channel].argmax())
            rows.append((*site, rank, int(channel), token, float(x[token, channel]), float(np.median(size))))
    names = ["model", "image", "layer", "feature", "rank", "channel", "token", "value", "median"]
    return pd.DataFrame(rows, columns=names)


def report(dataset: xr.Dataset) -> str:
    """The strongest channel of every map."""
    rows = peaks(dataset.feature_map)
    table = rows[rows["rank"] == 1].drop(columns="rank")
    about = f"channels with the largest absolute entry [model units], {len(dataset.image)} images, all tokens"
    return f"{about}\n" + table.to_string(index=False, float_format=lambda value: f"{value:.4g}")


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, image, layer, feature and rank: the strongest channels."""
    return with_origin(peaks(dataset.feature_map), dataset)
