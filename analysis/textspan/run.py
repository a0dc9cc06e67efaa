"""A model and its pictures → the texts of every head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from analysis.attribution.readout import Readout
from analysis.probes import images as image_source
from analysis.probes.images import Picture
from analysis.textspan.greedy import Moments, text_span
from analysis.textspan.moments import HeadMoments
from analysis.textspan.pool import Pool, pool
from analysis.textspan.table import TOKENS, merge
from clearclip.errors import UserError, refuse_repeated
from clearclip.models.backbone import Backbone
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.runs import results, unfinished_files
from clearclip.runs.processes import processes
from clearclip.runs.stream import stream
from clearclip.segmentation.text import embed

ATTRS = {
    "text": {"long_name": "texts along which the head varies most, in the order of choice", "units": "text"},
    "variance_share": {
        "long_name": "share of the head's variance in the directions of its texts up to this one",
        "units": "1",
    },
    "variance": {"long_name": "variance of what the head adds to the unit feature, over all directions", "units": "1"},
}


def measure(
    model: ModelLike,
    images: Any = None,
    texts: str | Sequence[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    tokens: str = "cls",
    count: int = 5,
    image_size: int | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    strict: bool = False,
    cache: Path | None = None,
    unfinished: Path | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """TextSpan: the texts of a pool along which what each head adds to the image features varies most.

    What a head adds is taken behind the final norm, with the token's own mean and deviation, and projected to the text
    space, where features have length 1: W·(A·v)_h without the output projection's bias, as in `analysis.attribution`.
    That is the direct effect only, and not what later blocks make of it.

    Args:
        model: a CLIP or another model with a text tower and a linear projection; a `Backbone`, a live module, or a name.
        images: any kind of pictures, see `analysis.probes.images.pictures`; None for scikit-image's photographs.
        texts: a list, or what `analysis.textspan.pool.pool` takes; None for "scenes" with `clip_tiny`, otherwise "general".
            They are put to the text tower as they stand, without templates.
        layers: counted from 1; None for all.
        heads: counted from 1; None for all.
        tokens: "cls", of which each picture has one, or "patches", all of them.
        count: how many texts for each head.
        image_size: side in pixels; None for the weights' own.
        batch_size: pictures in one forward pass.
        limit: only the first so many pictures.
        strict: raise on the first picture that cannot be read, instead of naming, counting and skipping it.
        cache: a folder for text embeddings.
        unfinished: a file that holds the run while it grows; if it is there already, the run continues from it.
        progress: show a progress bar.

    Memory does not depend on the number of pictures or tokens: C × C numbers for each head are kept, C channels of a head.

    Returns:
        `text` and `variance_share` (model, layer, head, rank), `variance` (model, layer, head). Where nothing is left that
        a text could explain, `text` is empty and `variance_share` NaN.

    Raises:
        UserError: the model has no text tower, no CLS token although that is asked for, or no linear way to the text space.

    >>> import clearclip
    >>> result = measure(clearclip.load("clip_tiny"), "scenes", layers=[6], limit=8, count=2, progress=False)
    >>> dict(result.text.sizes)
    {'model': 1, 'layer': 1, 'head': 3, 'rank': 2}
    """
    backbone, pictures = as_backbone(model), image_source.pictures(images, limit)
    layers, heads = tuple(sorted(backbone.layers(layers))), _heads(backbone, heads)
    if count < 1 or batch_size < 1:
        raise UserError(f"count {count}, batch size {batch_size}: at least 1 each.")
    if tokens not in TOKENS:
        raise UserError(f"tokens {tokens!r}: choose {' or '.join(TOKENS)}.")
    if tokens == "cls" and not backbone.prefix_tokens:
        raise UserError(f"{backbone.name} has no CLS token: use its patches, --tokens patches.")
    chosen = _pool(backbone, texts)
    embeddings = embed(backbone, [[text] for text in chosen.texts], ["{}"], cache).embeddings  # (M, E)
    readout = _readout(backbone, embeddings.shape[1])
    measurement = HeadMoments(readout, pictures, layers, heads, tokens, image_size, batch_size)
    found = stream(measurement, unfinished=unfinished, strict=strict, progress=progress)
    rows, columns = backbone.grid(image_size)
    about = results.about_model(backbone) | {
        "image_size": image_size or backbone.image_size,
        "rows": rows,
        "columns": columns,
        "pool": chosen.name,
        "pool_sha256": chosen.sha256,
        "pool_size": len(chosen.texts),
    }
    coords: dict[str, Any] = {name: ("model", [value]) for name, value in about.items()} | {
        "model": [backbone.name],
        "layer": ("layer", list(layers), {"long_name": "layer", "units": "1"}),
        "head": list(heads),
        "rank": list(range(1, count + 1)),
    }
    variables = _spans(readout, found, chosen, embeddings.double().cpu().numpy(), layers, heads, count)
    dims = ("model", "layer", "head", "rank")
    return xr.Dataset(
        {name: (dims[: values.ndim + 1], values[None], ATTRS[name]) for name, values in variables.items()},
        coords,
        found.attrs | {"tokens": tokens} | results.provenance(),
    )


def measure_models(
    loaders: Sequence[Callable[[], Backbone]], pictures: Sequence[Picture], output: Path, **how: Any
) -> xr.Dataset:
    """Measure several models on the same pictures; interrupted, the same call continues.

    Args:
        loaders: one function per model, as `clearclip.models.load` makes them, so that one model is in memory at a time.
        pictures: what `analysis.probes.images.pictures` gives.
        output: where the Dataset will be written. Unfinished runs are kept beside it until `unfinished_files.write_result`.
        how: further arguments of `measure`.

    Raises: `UserError` as `measure` does; under torchrun `Finished` in all processes but the first.
    """
    parts = []
    for load in loaders:
        model = load()
        parts.append(measure(model, list(pictures), unfinished=unfinished_files.beside(output, model.name), **how))
    merged = merge(parts)
    processes().leave_the_rest_to_the_first()
    return merged


def _heads(model: Backbone, heads: Sequence[int] | None) -> tuple[int, ...]:
    """Head numbers, counted from 1, ascending; all for None."""
    wrong = [head for head in heads or () if not 1 <= head <= model.heads]
    if wrong:
        raise UserError(f"heads {wrong}: {model.name} has heads 1 … {model.heads}.")
    refuse_repeated("heads", heads or ())
    return tuple(sorted(heads or range(1, model.heads + 1)))


def _pool(model: Backbone, texts: str | Sequence[str] | None) -> Pool:
    if texts is None:
        return pool("scenes" if model.architecture == "zoo:clip_tiny" else "general")
    return pool(texts) if isinstance(texts, str) else Pool("a list", tuple(texts))


def _readout(model: Backbone, width: int) -> Readout:
    """A readout along every axis of the text space."""
    if not model.has_projection:
        model.project(torch.empty(0))  # raises, saying what can be done
    readout = Readout(model, torch.eye(width))
    if not readout.is_linear:
        raise UserError(
            f"{model.name} projects its tokens through an attention pool that is not linear, so what a head adds is no part of a "
            "sum: take a CLIP with a linear projection, such as clip_vitb16."
        )
    return readout


def _spans(
    readout: Readout,
    found: xr.Dataset,
    chosen: Pool,
    embeddings: np.ndarray,
    layers: tuple[int, ...],
    heads: tuple[int, ...],
    count: int,
) -> dict[str, np.ndarray]:
    """The variables: texts, shares and variances by layer and head."""
    shape = (len(layers), len(heads))
    texts, shares, variance = np.full((*shape, count), "", object), np.full((*shape, count), np.nan), np.zeros(shape)
    for i, layer in enumerate(layers):
        block = readout.model.blocks[layer - 1]
        toward = block.attention_writer.toward(readout.stream).unflatten(0, (block.heads, -1))  # (heads, C, E)
        for j, head in enumerate(heads):
            moments = Moments(found["mean"].values[i, j], found["second"].values[i, j])
            span = text_span(moments, toward[head - 1].detach().cpu().double().numpy(), embeddings, count)
            texts[i, j, : len(span.texts)] = [chosen.texts[index] for index in span.texts]
            shares[i, j, : len(span.shares)] = span.shares
            variance[i, j] = span.variance
    return {"text": texts, "variance_share": shares, "variance": variance}
