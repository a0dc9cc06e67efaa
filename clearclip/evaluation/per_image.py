"""What every picture contributes to an evaluation: intersection and union of each class, for intervals over pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from clearclip.evaluation.scores import ATTRS


class Areas(NamedTuple):
    """One picture: its place in the data set, its name, and (recipes, 2, classes) intersection and union in pixels."""

    place: int
    name: str
    areas: np.ndarray


def kept(pictures: Sequence[Areas], recipes: int, classes: int) -> xr.Dataset:
    """Pictures as an unfinished run keeps them; there may be none."""
    areas = np.array([picture.areas for picture in pictures], np.int32).reshape(-1, recipes, 2, classes)
    numbered = json.dumps([(picture.place, picture.name) for picture in pictures])
    return xr.Dataset({"areas": (("image", "recipe", "area", "class"), areas)}, attrs={"numbered": numbered})


def restored(state: xr.Dataset) -> tuple[Areas, ...]:
    """The pictures that were kept."""
    numbered = json.loads(state.attrs["numbered"])
    return tuple(Areas(place, name, areas) for (place, name), areas in zip(numbered, state.areas.values, strict=True))


def variables(states: Sequence[xr.Dataset]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables and the coordinate of a result, in the order of the data set, whichever process took which picture."""
    pictures = sorted((picture for state in states for picture in restored(state)), key=lambda picture: picture.place)
    areas = np.stack([picture.areas for picture in pictures])[None, None]  # (1, 1, images, recipes, 2, classes)
    dims = ("model", "dataset", "image", "recipe", "class")
    named = {f"image_{name}": (dims, areas[..., i, :], ATTRS[name]) for i, name in enumerate(("intersection", "union"))}
    return named, {"image": [picture.name for picture in pictures]}
