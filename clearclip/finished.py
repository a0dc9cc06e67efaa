"""Whether a Dataset on disk already holds what is asked: the same door, options and weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from clearclip.cli import Models, facts, of_view
from clearclip.errors import UserError
from clearclip.models.checkpoint import file_digest
from clearclip.models.load import load
from clearclip.models.named import Named, all_named
from clearclip.models.names import SHIPPED
from clearclip.runs import netcdf

# what does not change the numbers, beside what of them is shown
NO_EFFECT = {"output", "figure", "data", "device", "batch_size", "text_cache", "strict", "restart"}


def state(door: str, options: Any, path: Path) -> Literal["finished", "other facts", "missing"]:
    """Whether a Dataset is there, and whether this door has written it with these options and these weights."""
    if not path.is_file():
        return "missing"
    try:
        with netcdf.opened(path) as dataset:
            written = json.loads(dataset.attrs.get("options", "{}"))
            weights = dict(zip(dataset.model.values.tolist(), dataset.weights_sha256.values.tolist(), strict=True))
            texts = dataset.attrs.get("text_embeddings_sha256")
    except UserError:  # what cannot be read or has no such facts was written by something else
        return "other facts"
    if not isinstance(written, dict):
        return "other facts"
    wanted = {"door": door, **facts(options)}
    same = all(written.get(name) == wanted[name] for name in wanted.keys() - NO_EFFECT - of_view(options))
    same = same and _text_digest(options) == texts
    return "finished" if same and _same_weights(options.models, weights) else "other facts"


def reusable(
    door: str, options: Any, same_pictures: Callable[[xr.Dataset], bool], read: Callable[[Path], xr.Dataset]
) -> xr.Dataset | None:
    """The Dataset in a door's own output file, if it is finished and its pictures are still the same; otherwise None.

    Args:
        door, options: as for `state`.
        same_pictures: whether the pictures still have the contents of those that a Dataset is about.
        read: reads the file.
    """
    output = options.result.output
    if state(door, options, output) != "finished":
        return None
    try:
        dataset = read(output)
    except UserError as error:
        raise UserError(f"{error} Delete it to measure again.") from error
    return dataset if same_pictures(dataset) else None


def _same_weights(models: Models, weights: dict[str, str]) -> bool:
    """Whether the weights that can be hashed without a network, files and shipped ones, are those behind a Dataset."""
    wanted = all_named(models.model, models.checkpoint)
    each = 1 + bool(models.ablate or models.registers)  # as it is, and with interventions
    return list(weights)[::each] == [model.label for model in wanted] and all(
        weights[model.label] == sha256 for model in wanted if (sha256 := _known_digest(model, models.random))
    )


def _text_digest(options: Any) -> str | None:
    """The SHA-256 of the file of text embeddings that a command names, if it can and does."""
    file = getattr(getattr(options, "text", None), "text_embeddings", None)
    return None if file is None else file_digest(file)


def _known_digest(model: Named, random: bool) -> str:
    """The SHA-256 of a model's weights, or nothing where only the hub knows it."""
    if model.checkpoint is not None:
        return file_digest(model.checkpoint)
    return load(model.name, random=random).weights.sha256 if model.name in SHIPPED else ""
