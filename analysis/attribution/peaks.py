"""The largest values of every feature map, where they stand, and who wrote the one that is asked for: pictures to Dataset.

Every picture goes through the model twice. Where a peak stands is known at the end of a pass only, so the first one finds it,
and the second takes that one value apart. Both run the same code, so it is the same value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from analysis.attribution.writers import COMPONENTS, Written, written
from analysis.probes.collection import describe_model
from analysis.probes.images import Picture
from analysis.probes.photos import photo, thumbnail
from analysis.probes.probe import Probe
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES, OUTPUT
from clearclip.models.finite import feature_sites, require_finite
from clearclip.models.memory import refuse_too_large

MAPS = (*FEATURES, OUTPUT)
RANKS = 3  # of the largest values, as figures of massive activations show them (Sun et al. 2024, arXiv 2402.17762)
TOP = 10  # neurons that are named
AMONG = ("all", "patches")


class Largest(NamedTuple):
    """The largest magnitudes of a map, largest first, each (RANKS,), and the median magnitude, ()."""

    value: Tensor  # with its sign
    token: Tensor
    channel: Tensor
    share: Tensor  # of the token's squared norm
    median: Tensor


def largest(x: Tensor) -> Largest:
    """The entries of a map with the largest magnitude.

    Args: x (tokens, channels). Returns: their values, places and shares; the median is the lower one of an even number.

    >>> found = largest(torch.tensor([[1.0, 0.0], [-4.0, 3.0], [2.0, 0.0]]))
    >>> found.value.tolist(), found.token.tolist(), found.channel.tolist(), found.share.tolist(), float(found.median)
    ([-4.0, 3.0, 2.0], [1, 1, 2], [0, 1, 0], [0.6399999856948853, 0.36000001430511475, 1.0], 1.0)
    """
    x = x if x.dtype == torch.float64 else x.float()
    flat = x.abs().flatten()
    places = flat.topk(RANKS).indices
    value = x.flatten()[places]
    token, channel = places // x.shape[1], places % x.shape[1]
    norms = x[token].square().sum(1)
    return Largest(value, token, channel, value.square() / norms.clamp_min(torch.finfo(x.dtype).tiny), flat.median())


def measure(
    model: Backbone,
    pictures: Sequence[Picture],
    layer: int | None = None,
    feature: str = "X_res",
    among: str = "all",
    image_size: int | None = None,
) -> xr.Dataset:
    """The largest values of X_res, X_attn, X_sum and X_out of every layer, and who wrote the largest one of one map.

    X_out is what a block hands on: the X_res of the next block, and of the last block what goes to the final norm.

    Args:
        layer: of the map whose peak is taken apart, counted from 1; None for the last.
        feature: which of its maps.
        among: "all" tokens, or "patches" only.
        image_size: side in pixels; None for the weights' own.

    Returns:
        `peak` with its `peak_channel`, `peak_token`, `peak_row`, `peak_column` (NaN where no patch) and `peak_share`, (model,
        image, layer, feature, rank); `median` (model, image, layer, feature); of the asked peak `written` (model, image, layer,
        component), `written_by_head` (model, image, layer, head), and the neurons that wrote most on average: `neuron_layer`,
        `neuron` (model, top), `neuron_activation`, `neuron_weight`, `written_by_neuron` (model, image, top).

    Raises:
        UserError: the model has no such layer or map, or values are not finite.
    """
    layer = model.layers([model.depth if layer is None else layer])[0]
    for name, value, allowed in (("feature", feature, MAPS), ("among", among, AMONG)):
        if value not in allowed:
            raise UserError(f"{name} {value!r}: choose one of {', '.join(allowed)}.")
    refuse_too_large(model, image_size)
    skipped = model.prefix_tokens if among == "patches" else 0
    transform, sites = model.transform(image_size), feature_sites(range(1, model.depth + 1), MAPS)
    probe = Probe(model, reduce=lambda x: largest(x[0, skipped:]), outputs=True)
    at = probe.sites.index((layer, feature))
    found: list[dict[str, np.ndarray]] = []
    parts: list[Written] = []
    photos = []
    for picture in pictures:
        image = transform(picture.read())  # (3, H, W)
        photos.append(thumbnail(image, model))
        with torch.inference_mode(), probe:
            maps = list(probe.run(image[None]).values())
        columns = zip(*maps, strict=True)
        place = {name: torch.stack(column).cpu().numpy() for name, column in zip(Largest._fields, columns, strict=True)}
        require_finite(np.isfinite(place["value"]).all(1)[None], [picture.name], sites, model)
        place["token"] += skipped
        found.append(place)
        token, channel = (int(place[name][at, 0]) for name in ("token", "channel"))
        parts.append(written(model, image, layer, feature, token, channel))
    dataset = xr.Dataset(
        _places(found, model, image_size) | _writers(parts) | {"photo": photo(photos)},
        {
            "model": [model.name],
            "image": [picture.name for picture in pictures],
            "layer": range(1, model.depth + 1),
            "feature": list(MAPS),
            "rank": range(1, RANKS + 1),
            "component": list(COMPONENTS),
            "head": range(1, model.heads + 1),
            "top": range(1, TOP + 1),
            "asked_layer": ("model", [layer]),
            "asked_feature": ("model", [feature]),
            "among": ("model", [among]),
        },
    )
    return describe_model(dataset, model, image_size, pictures)


def _places(found: list[dict[str, np.ndarray]], model: Backbone, image_size: int | None) -> dict[str, Any]:
    """The variables that say where the largest values stand."""
    columns = model.grid(image_size)[1]
    joined = {
        name: np.stack([each[name] for each in found]).reshape(len(found), model.depth, len(MAPS), -1)
        for name in Largest._fields
    }
    patch = np.where(joined["token"] < model.prefix_tokens, np.nan, joined["token"] - model.prefix_tokens)
    dims = ("image", "layer", "feature", "rank")
    return {
        "peak": _variable(dims, joined["value"], "value of the largest magnitudes", "model units"),
        "peak_channel": _variable(dims, joined["channel"], "channel", "1"),
        "peak_token": _variable(dims, joined["token"], "token", "1"),
        "peak_row": _variable(dims, patch // columns, "row of the patch", "1"),
        "peak_column": _variable(dims, patch % columns, "column of the patch", "1"),
        "peak_share": _variable(dims, joined["share"], "share of the token's squared norm", "1"),
        "median": _variable(dims[:3], joined["median"][..., 0], "median magnitude", "model units"),
    }


def _writers(parts: list[Written]) -> dict[str, Any]:
    """The variables that say who wrote the asked peak."""
    neurons = torch.stack([each.neurons for each in parts])  # (images, L, M)
    values = torch.stack([each.value for each in parts])[:, None, None]
    shares = torch.where(values != 0, neurons / values, 0.0)  # a map of zeros has no writer
    strongest = shares.mean(0).abs().flatten().topk(TOP).indices
    layers, numbers = strongest // neurons.shape[2], strongest % neurons.shape[2]

    def of_neurons(name: str) -> np.ndarray:
        return torch.stack([getattr(each, name)[layers, numbers] for each in parts]).cpu().numpy()

    dims = ("image", "top")
    components = torch.stack([each.components for each in parts]).cpu().numpy()
    heads = torch.stack([each.heads for each in parts]).cpu().numpy()
    return {
        "written": _variable(("image", "layer", "component"), components, "added to the peak", "model units"),
        "written_by_head": _variable(("image", "layer", "head"), heads, "added to the peak", "model units"),
        "neuron_layer": _variable(("top",), layers.cpu().numpy() + 1, "layer of the neuron", "1"),
        "neuron": _variable(("top",), numbers.cpu().numpy(), "neuron", "1"),
        "neuron_activation": _variable(dims, of_neurons("activations"), "activation at the token", "1"),
        "neuron_weight": _variable(dims, of_neurons("weights"), "weight to the channel", "model units"),
        "written_by_neuron": _variable(dims, of_neurons("neurons"), "added to the peak", "model units"),
    }


def _variable(dims: tuple[str, ...], values: np.ndarray, long_name: str, units: str) -> tuple[Any, ...]:
    """One variable of one model: whole numbers as they are, others as float32."""
    kept = values if values.dtype.kind in "iu" else values.astype(np.float32)
    return ("model", *dims), kept[None], {"long_name": long_name, "units": units}
