"""How far a share of a run is, as its state says it in attributes, and whether what a state says can be true."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import xarray as xr


class Done(NamedTuple):
    """How far a share is. It is replaced as a whole, together with the total."""

    batches: int
    images: int
    skipped: tuple[tuple[int, str], ...]  # index and message of each picture that could not be used
    total: Any

    def attributes(self) -> dict[str, Any]:
        """What a state says of it, beside the total."""
        return {
            "batches_done": self.batches,
            "images": self.images,
            "skipped": json.dumps([message for _, message in self.skipped]),
            "skipped_indices": json.dumps([index for index, _ in self.skipped]),
        }


def restored(state: xr.Dataset, total: Any) -> Done:
    """Where an interrupted share stands."""
    about = state.attrs
    return Done(int(about["batches_done"]), int(about["images"]), tuple(skipped(state)), total)


def skipped(state: xr.Dataset) -> list[tuple[int, str]]:
    """Index and message of each picture that a share could not use."""
    return list(zip(json.loads(state.attrs["skipped_indices"]), json.loads(state.attrs["skipped"]), strict=True))


def fault(state: xr.Dataset, batches: Sequence[Sequence[int]], start: xr.Dataset) -> str:
    """Why a state cannot be one of these batches, or nothing.

    Args:
        state: of an interrupted share.
        batches: of this share, each with the indices of its pictures.
        start: the state before the first batch. What has no length there has one entry per picture later.
    """
    try:
        done = restored(state, None)
    except (KeyError, ValueError, TypeError) as error:
        return f"its counters cannot be read ({error})"
    if not 0 <= done.batches <= len(batches):
        return f"it counts {done.batches} of {len(batches)} batches"
    pictures = list(chain.from_iterable(batches[: done.batches]))
    left_out = [index for index, _ in done.skipped]
    if done.images < 0 or done.images + len(left_out) != len(pictures):
        return f"it counts {done.images} used and {len(left_out)} skipped pictures in batches of {len(pictures)}"
    if len(set(left_out)) != len(left_out) or not set(left_out) <= set(pictures):
        return "it skips pictures that its batches do not have"
    for name, first in start.data_vars.items():
        sizes = {dim: size or done.images for dim, size in first.sizes.items()}
        if name not in state or dict(state[name].sizes) != sizes:
            return f"its {name} has another shape"
    return ""
