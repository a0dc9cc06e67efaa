"""Which component draws what: for every picture, direction and component, a map of what it adds to the score of each patch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from analysis.attribution.components import to_coords
from analysis.attribution.directions import Directions, of_texts
from analysis.attribution.parts import Parts, decompose
from analysis.attribution.readout import Readout
from analysis.attribution.sources import sources
from analysis.probes import images as image_source
from analysis.probes.collection import describe_model
from analysis.probes.images import Picture
from analysis.probes.photos import photo, thumbnail
from analysis.probes.table import with_origin
from clearclip.errors import UserError
from clearclip.methods import recipes
from clearclip.methods.recipe import Recipe
from clearclip.models.backbone import Backbone
from clearclip.models.finite import require_finite
from clearclip.models.memory import refuse_too_large
from clearclip.models.wrap import ModelLike, as_backbone

DIMS = ("model", "image", "direction", "component", "row", "column")


def attribute(
    model: ModelLike,
    images: Any = None,
    texts: str | Sequence[str] | None = None,
    *,
    directions: Directions | None = None,
    recipe: str | Recipe = "clip",
    proxy: ModelLike | None = None,
    image_size: int | None = None,
    prompts: str | Sequence[str] = "imagenet",
    limit: int | None = None,
    from_tokens: bool = False,
) -> xr.Dataset:
    """Take the score of every patch apart into what each component of the model has added to it, exactly.

    cos(f, t) = Σ over components of ⟨component − its mean, γ ∘ Pᵀt⟩ / (σ|f|), with the patch's own mean and deviation σ: the
    embedding, each head, FFN and bias of every block; of the last block, what the recipe makes of it (Gandelsman et al. 2024
    for CLS, here for patches).

    Args:
        model: a `Backbone`, a live module, or a name.
        images: any kind of pictures, see `analysis.probes.images.pictures`; None for scikit-image's photographs.
        texts: class names, as "cat, grass"; for models with a text tower.
        directions: any other vectors in place of texts, see `analysis.attribution.directions`.
        recipe: a recipe without stages around the last block; a model without a text space is read as it is ("clip").
        proxy: a second model for recipes that need one.
        image_size: side in pixels; None for the weights' own.
        prompts: as in `Segmenter`.
        limit: only the first so many pictures.
        from_tokens: also tell from which tokens each head took what it adds to the patch with the highest score.

    Returns:
        A Dataset with `attribution` (model, image, direction, component, row, column) and `score`, their sum, float32, and
        `photo`; along `component` kind, layer and head. If asked for, `taken` (the same dimensions) from patches and
        `taken_before` from the tokens before them.

    Raises:
        UserError: neither texts nor directions, or a recipe whose scores are no sum over components.

    >>> import analysis
    >>> result = analysis.attribute("clip_tiny", "scenes", "cat, grass", limit=1)
    >>> bool((result.attribution.sum("component") - result.score).max() < 1e-5)
    True
    """
    backbone, which = as_backbone(model), recipes.recipe(recipe)
    if texts is not None and directions is None:
        asked = of_texts(backbone, texts, prompts)
    elif directions is not None and texts is None:
        asked = directions
    else:
        raise UserError('scores of what? Give texts, as "cat, grass", or directions, such as class prototypes.')
    pictures = image_source.pictures(images, limit)
    guide = None if proxy is None else as_backbone(proxy)
    return attribution_maps(backbone, pictures, asked, which, guide, image_size, from_tokens)


def attribution_maps(
    model: Backbone,
    pictures: Sequence[Picture],
    directions: Directions,
    recipe: Recipe,
    proxy: Backbone | None = None,
    image_size: int | None = None,
    from_tokens: bool = False,
) -> xr.Dataset:
    """As `attribute`, of a `Backbone` and pictures that are listed already."""
    refuse_too_large(model, image_size)
    readout, transform = Readout(model, directions.vectors), model.transform(image_size)
    photos, parts, taken = [], [], []
    for picture in pictures:
        image = transform(picture.read())  # (3, H, W)
        photos.append(thumbnail(image, model))
        part = decompose(readout, image[None].to(model.device), recipe, proxy)
        finite = part.values.isfinite().all()[None, None]
        require_finite(finite, [picture.name], ["the components of the scores"], model)
        parts.append(_on_grid(part))
        if from_tokens:
            taken.append(_taken(readout, image[None].to(model.device), recipe, part))
    values, scores = (np.stack(each) for each in zip(*parts, strict=True))
    components, (rows, columns) = part.components, part.grid
    from_where = {}
    if from_tokens:
        patches, before = (np.stack(each)[None] for each in zip(*taken, strict=True))
        of = {"long_name": "what a head took from there for the patch with the highest score", "units": "1"}
        from_where = {"taken": (DIMS, patches, of), "taken_before": (DIMS[:4], before, of)}
    dataset = xr.Dataset(
        {
            **from_where,
            "attribution": (DIMS, values[None], {"long_name": "what a component adds to the score", "units": "1"}),
            "score": (
                tuple(dim for dim in DIMS if dim != "component"),
                scores[None],
                {"long_name": "cosine of patch and direction", "units": "1"},
            ),
            "photo": photo(photos),
        },
        {
            "model": [model.name],
            "image": [picture.name for picture in pictures],
            "direction": directions.names,
            **to_coords(components),
            "row": list(range(rows)),
            "column": list(range(columns)),
            "recipe": ("model", [recipe.name]),
        },
    )
    return describe_model(dataset, model, image_size, pictures)


def _on_grid(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Of one picture: (T, K, rows, columns), and the scores (T, rows, columns), float32."""
    values = parts.values[0].permute(2, 1, 0).unflatten(-1, parts.grid)
    return values.float().cpu().numpy(), parts.cosines[0].T.unflatten(-1, parts.grid).float().cpu().numpy()


def _taken(readout: Readout, images: Tensor, recipe: Recipe, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """What heads took for the best patch of each direction, from patches (T, K, rows, columns) and before them (T, K)."""
    best = parts.cosines[0].argmax(0).tolist()  # (T,)
    patches, prefix = sorted(set(best)), readout.model.prefix_tokens
    found = sources(readout, images, recipe, patches)
    places = torch.tensor([parts.components.index(head) for head in found.heads], device=images.device)
    values = found.values[0]  # (heads, P, L, T)
    whole = values.new_full((len(best), len(parts.components), values.shape[2]), math.nan)
    for t, patch in enumerate(best):
        whole[t, places] = values[:, patches.index(patch), :, t]
    maps = whole[..., prefix:].unflatten(-1, parts.grid)
    return maps.float().cpu().numpy(), whole[..., :prefix].sum(-1).float().cpu().numpy()


def strongest(dataset: xr.Dataset, count: int = 10) -> pd.DataFrame:
    """The components that tell the patch of the highest score most from the picture's other patches, by picture and direction.

    What a component adds everywhere alike tells no patch from another, so its mean over the picture is taken out.
    """
    relative = dataset.attribution - dataset.attribution.mean(("row", "column"))
    rows = []
    for cell in cells_of(dataset):
        row, column = best_patch(dataset, **cell)
        values = relative.sel(cell).isel(row=row, column=column).to_series().dropna()
        order = values.abs().sort_values(ascending=False).index[:count]
        rows += [{**cell, "row": row, "column": column, "component": name, "adds": values[name]} for name in order]
    return pd.DataFrame(rows)


def cells_of(dataset: xr.Dataset) -> list[dict[str, str]]:
    """Every model, picture and direction of attribution maps, one after another, for `Dataset.sel`."""
    names = ("model", "image", "direction")
    return [dict(zip(names, cell, strict=True)) for cell in product(*(dataset[name].values.tolist() for name in names))]


def best_patch(dataset: xr.Dataset, **cell: str) -> tuple[int, int]:
    """Row and column of the patch with the highest score of one model, picture and direction."""
    scores = dataset.score.sel(cell).values
    row, column = np.unravel_index(np.nanargmax(scores), scores.shape)
    return int(row), int(column)


def report(dataset: xr.Dataset) -> str:
    """The strongest components at the patch with the highest score, for each picture and direction."""
    lines = ["what draws the patch with the highest score, beside what the same component adds elsewhere on average"]
    for cell, part in strongest(dataset, 6).groupby(["model", "image", "direction"], sort=False):
        named = ", ".join(f"{name} {value:+.3f}" for name, value in zip(part["component"], part["adds"], strict=True))
        where = f"row {part['row'].iloc[0]}, column {part['column'].iloc[0]}"
        lines.append(f"{' · '.join(map(str, cell))} ({where}): {named}")
    return "\n".join(lines)


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, picture, direction and component: its mean over the patches, and its deviation from patch to patch."""
    values = dataset.attribution
    frame = xr.Dataset({"mean": values.mean(("row", "column")), "std": values.std(("row", "column"))})
    wanted = ["model", "image", "direction", "component", "kind", "layer", "head", "mean", "std"]
    return with_origin(frame.to_dataframe().reset_index()[wanted].dropna(subset="mean"), dataset)
