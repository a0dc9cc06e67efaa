"""Which patches are like one patch: cosine similarity in X_res, X_attn and X_sum of chosen layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from analysis.probes.collection import describe_model
from analysis.probes.images import Picture
from analysis.probes.photos import photo, thumbnail
from analysis.probes.probe import Probe
from analysis.probes.table import with_origin
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES
from clearclip.models.finite import feature_sites, require_finite
from clearclip.models.memory import refuse_too_large


def patch_similarity(x: Tensor, query: int, prefix_tokens: int) -> Tensor:
    """Cosine of one patch with every patch of its map.

    Args:
        x: maps (B, tokens, channels), prefix tokens first.
        query: the patch that asks, counted from 0 without the prefix tokens.
        prefix_tokens: how many tokens stand before the patches.

    Returns: (B, patches) float32 in [−1, 1]; a patch of zeros has cosine 0 with every other.

    >>> patch_similarity(torch.tensor([[[9.0, 9.0], [1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]]), query=0, prefix_tokens=1)
    tensor([[1., 1., 0.]])
    """
    patches = F.normalize(x[:, prefix_tokens:].float(), dim=-1)  # (B, patches, channels)
    return (patches @ patches[:, query, :, None]).squeeze(-1)


def similarity_maps(
    model: Backbone,
    pictures: Sequence[Picture],
    query: tuple[float, float],
    layers: Sequence[int] | None = None,
    features: Sequence[str] = FEATURES,
    image_size: int | None = None,
) -> xr.Dataset:
    """How alike the patch at one point of each picture is to all its patches, in every feature map, from one pass each.

    Args:
        query: the point that asks, as shares of the height and of the width of what the model sees, each in [0, 1).
        layers: counted from 1; None for all.
        features: of X_res, X_attn and X_sum.
        image_size: side in pixels; None for the weights' own.

    Returns: `similarity` (model, image, layer, feature, row, column) float32, `photo` (model, image, y, x, rgb).
    Raises: `UserError` for layers or features that do not exist, or a point outside the picture.
    """
    if not all(0 <= share < 1 for share in query):
        raise UserError(f"query {query}: the shares of height and width lie in [0, 1), 0.5 0.5 is the middle.")
    layers = model.layers(layers)
    rows, columns = model.grid(image_size)
    refuse_too_large(model, image_size)
    row, column = int(query[0] * rows), int(query[1] * columns)
    reduce = partial(patch_similarity, query=row * columns + column, prefix_tokens=model.prefix_tokens)
    transform = model.transform(image_size)
    maps, photos = [], []
    with torch.inference_mode(), Probe(model, layers, features, reduce=reduce) as probe:
        for picture in pictures:
            image = transform(picture.read())  # (3, H, W)
            photos.append(thumbnail(image, model))
            sites = torch.cat(list(probe.run(image[None]).values()))  # (layers · features, patches)
            require_finite(sites.isfinite().all(-1)[None], [picture.name], feature_sites(layers, features), model)
            maps.append(sites.view(len(layers), len(features), rows, columns).cpu().numpy())
    dims = ("model", "image", "layer", "feature", "row", "column")
    dataset = xr.Dataset(
        {
            "similarity": (dims, np.stack(maps)[None], {"long_name": "cosine with the asking patch", "units": "1"}),
            "photo": photo(photos),
        },
        {
            "model": [model.name],
            "image": [picture.name for picture in pictures],
            "layer": list(layers),
            "feature": list(features),
            "row": list(range(rows)),
            "column": list(range(columns)),
            "query_row": ("model", [row]),
            "query_column": ("model", [column]),
        },
    )
    return describe_model(dataset, model, image_size, pictures)


def contrast(dataset: xr.Dataset) -> xr.DataArray:
    """How much nearer the most similar tenth of the patches is than the median, (model, image, layer, feature).

    0 where all patches are alike: then the map says nothing about the place.
    """
    values = dataset.similarity
    dims = ("row", "column")
    return (values.quantile(0.9, dims) - values.quantile(0.5, dims)).rename("contrast")


def report(dataset: xr.Dataset) -> str:
    """The contrast of the maps, layers × models and features."""
    table = contrast(dataset).mean("image").stack(column=("model", "feature")).to_pandas()
    about = "contrast of the similarity maps (90th percentile − median of the cosines), mean over images"
    text = table.to_string(float_format=lambda value: f"{value:.3f}", na_rep="")
    return f"{about}, {dataset.sizes['image']} images\n{text}"


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, image, layer and feature: the contrast of its map."""
    rows = contrast(dataset).reset_coords(drop=True).to_dataframe().reset_index()
    return with_origin(rows.dropna(subset="contrast"), dataset)
