"""Where a token looks: attention maps from q-k, q-q, k-k or v-v products, computed beside the model's own attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from analysis.probes import images as image_source
from analysis.probes.collection import describe_model
from analysis.probes.photos import photo, thumbnail
from analysis.probes.table import with_origin
from clearclip.errors import UserError, refuse_repeated
from clearclip.models.finite import require_finite
from clearclip.models.memory import refuse_too_large
from clearclip.models.wrap import ModelLike, as_backbone

AFFINITIES = ("qk", "qq", "kk", "vv")


@torch.no_grad()
def attention_maps(
    model: ModelLike,
    images: Any,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    affinities: Sequence[str] = ("qk",),
    names: Sequence[str] = (),
) -> dict[tuple[int, str], Tensor]:
    """softmax(s · a·bᵀ) for each layer and product ab, s = head width ^ -½.

    "qk" equals what the model itself uses. Computed from the block's inputs in one pass; the model's fused attention is
    not switched off.

    Args:
        images: normalized, (B, 3, H, W), or pictures that are no tensor, see `analysis.probes.images.pictures`.
        layers: counted from 1; None for all.
        heads: counted from 1; None for all.
        affinities: products of `AFFINITIES`.
        names: what messages call the pictures, by default their own names, or picture 0, picture 1, …

    Returns: (B, heads, L, L) float32 for each layer and product, on the device.
    Raises: `UserError` for layers, heads or products that do not exist, or values that are not finite.

    >>> import clearclip, torch
    >>> maps = attention_maps(clearclip.load("dino_vits16", random=True), torch.zeros(1, 3, 32, 32), [12], affinities=["qq"])
    >>> maps[12, "qq"].shape, bool(maps[12, "qq"].sum(-1).allclose(torch.tensor(1.0)))
    (torch.Size([1, 6, 5, 5]), True)
    """
    model = as_backbone(model)
    unknown = [name for name in affinities if name not in AFFINITIES]
    if unknown:
        raise UserError(f"affinities {unknown}: choose from {', '.join(AFFINITIES)}.")
    wrong = [head for head in heads or () if not 1 <= head <= model.heads]
    if wrong:
        raise UserError(f"heads {wrong}: {model.name} has heads 1 … {model.heads}.")
    refuse_repeated("affinities", affinities)
    refuse_repeated("heads", heads or ())
    indices = [head - 1 for head in heads] if heads else list(range(model.heads))
    if not isinstance(images, Tensor):
        transform, pictures = model.transform(), image_source.pictures(images)
        images, names = torch.stack([transform(picture.read()) for picture in pictures]), [p.name for p in pictures]
    maps, finite = {}, []
    for layer, seen in model.block_inputs(images, layers).items():
        block = model.blocks[layer - 1]
        with model.autocast():
            parts = dict(zip("qkv", block.qkv(block.norm1(seen.x), seen.rope), strict=True))
        for name in affinities:
            a, b = (parts[letter][:, indices] for letter in name)  # (B, heads, L, C)
            maps[layer, name] = attended(a, b)
            finite.append(torch.stack([part.flatten(1).isfinite().all(1) for part in (a, b)]).all(0))  # (B,)
    sites = [f"{name} of layer {layer}" for layer, name in maps]
    require_finite(torch.stack(finite, 1), names or [f"picture {i}" for i in range(len(images))], sites, model)
    return maps


def attended(a: Tensor, b: Tensor) -> Tensor:
    """softmax(s · a·bᵀ), s = C^-½: where tokens a (B, heads, R, C) look among tokens b (B, heads, L, C), (B, heads, R, L) float32.

    >>> attended(torch.zeros(1, 1, 1, 4), torch.ones(1, 1, 2, 4))
    tensor([[[[0.5000, 0.5000]]]])
    """
    a, b = a.float(), b.float()
    with torch.autocast(a.device.type, enabled=False):  # also where the caller has one: the maps are float32
        return torch.softmax(a @ b.mT * a.shape[-1] ** -0.5, -1)


def token_attention(
    model: ModelLike,
    images: Any,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    affinities: Sequence[str] = ("qk",),
    query: tuple[int, int] | None = None,
    image_size: int | None = None,
) -> xr.Dataset:
    """Attention of one token over the patches of each picture, and the pictures as the model sees them.

    Args:
        images: any kind of pictures, see `analysis.probes.images.pictures`.
        layers: counted from 1; None for the last.
        heads: counted from 1; None for all.
        affinities: products of `AFFINITIES`.
        query: row and column (from 0) of the patch that asks; None for CLS, or the mean over all patches without one.
        image_size: side in pixels; None for the weights' own.

    Returns: `attention` (model, image, layer, affinity, head, row, column) float32, `photo` (model, image, y, x, rgb).
    Raises: `UserError` for layers, heads, products or a patch that do not exist.
    """
    model, pictures = as_backbone(model), image_source.pictures(images)
    layers = model.layers(layers or (model.depth,))
    heads = tuple(heads or range(1, model.heads + 1))
    rows, columns = model.grid(image_size)
    if query is not None and not (0 <= query[0] < rows and 0 <= query[1] < columns):
        raise UserError(f"query {query}: {model.name} sees {rows} × {columns} patches, counted from 0.")
    refuse_too_large(model, image_size, attention=True)
    transform, first = model.transform(image_size), model.prefix_tokens
    attention, photos = [], []
    with torch.inference_mode():
        for picture in pictures:
            image = transform(picture.read())  # (3, H, W)
            photos.append(thumbnail(image, model))
            maps = attention_maps(model, image[None], layers, heads, affinities, [picture.name])
            stacked = torch.stack([torch.stack([maps[layer, name][0] for name in affinities]) for layer in layers])
            if query is not None:
                attended = stacked[..., first + query[0] * columns + query[1], first:]
            else:
                attended = stacked[..., 0, first:] if first else stacked.mean(-2)  # (layer, affinity, head, hw)
            attention.append(attended.unflatten(-1, (rows, columns)).cpu().numpy())
    token = f"patch {query}" if query else "CLS" if first else "mean over patches"
    dataset = xr.Dataset(
        {
            "attention": (
                ("model", "image", "layer", "affinity", "head", "row", "column"),
                np.stack(attention)[None],
                {"long_name": "attention of the asking token", "units": "1"},
            ),
            "photo": photo(photos),
        },
        {
            "model": [model.name],
            "image": [picture.name for picture in pictures],
            "layer": list(layers),
            "affinity": list(affinities),
            "head": list(heads),
            "row": list(range(rows)),
            "column": list(range(columns)),
            "query": ("model", [token]),
            "query_row": ("model", [query[0] if query else -1]),
            "query_column": ("model", [query[1] if query else -1]),
        },
    )
    return describe_model(dataset, model, image_size, pictures)


def patches_covered(dataset: xr.Dataset) -> xr.DataArray:
    """How far attention is spread, (model, image, layer, affinity, head): exp of its entropy.

    It is the number of patches that the attention covers if it is even on them; NaN for what a model lacks.
    """
    share = dataset.attention / dataset.attention.sum(("row", "column"))
    covered = share.where(share > 0).pipe(lambda p: -p * np.log(p)).sum(("row", "column")).pipe(np.exp)
    return covered.where(dataset.attention.notnull().any(("row", "column"))).rename("patches_covered")


def report(dataset: xr.Dataset) -> str:
    """How many patches the attention covers, layers × models and products."""
    covered = patches_covered(dataset)
    table = covered.mean(("image", "head")).stack(column=("model", "affinity")).to_pandas()
    about = "patches that the attention covers (exp of its entropy), mean over images and heads"
    return f"{about}, {dataset.sizes['image']} images\n" + table.to_string(
        float_format=lambda value: f"{value:.4g}", na_rep=""
    )


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, image, layer, product and head: how many patches the attention covers."""
    rows = patches_covered(dataset).reset_coords(drop=True).to_dataframe().reset_index()
    return with_origin(rows.dropna(subset="patches_covered"), dataset)
