"""The Dataset: its schema, where it came from, how it is written, resumed and merged. The format is a promise.

Dimensions `model`, `image`, `layer` (1 … L), `feature` (X_res, X_attn, X_sum), `tokens` (patches, all), `channel`,
`token`. Statistics of single images are float32 (model, image, layer, feature, tokens); averages over images are
(model, layer, feature, tokens, channel or token). What a model of smaller depth or width lacks is NaN. Along `model`
lie its weights, their SHA-256, whether they are random, precision, preprocessing and grid; the attributes hold library
versions, the image list's digest, the command line and the time.
"""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from clearclip.errors import UserError

LIBRARIES = ("torch", "timm", "open_clip_torch", "numpy", "xarray", "pillow")
SUM = "_sum"  # variables of an unfinished run that hold sums over images, as two float64 parts


class ExactSum:
    """A sum of float64 arrays that does not depend on the order of its terms (an error-free transformation).

    Two machines that share the images, or a run that was interrupted, end with the same bits as one run.

    >>> total = ExactSum.zeros(())
    >>> for term in (1e16, 1.0, -1e16): total.add(np.float64(term))
    >>> float(total.value())
    1.0
    """

    def __init__(self, parts: np.ndarray) -> None:
        self.parts = parts  # (2, …): the sum, and what its rounding lost

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> "ExactSum":
        """An empty sum."""
        return cls(np.zeros((2, *shape)))

    def add(self, term: np.ndarray) -> None:
        """Add one array of the sum's shape."""
        self.parts = self.plus(term).parts

    def plus(self, term: np.ndarray) -> "ExactSum":
        """The sum with one more array of its shape (Knuth's two-sum)."""
        high, low = self.parts
        total = high + term
        shadow = total - high
        return ExactSum(np.stack([total, low + ((high - (total - shadow)) + (term - shadow))]))

    def value(self) -> np.ndarray:
        """The sum."""
        return self.parts.sum(0)


def provenance(command: str | None = None) -> dict[str, str]:
    """Attributes that every result carries: library versions, command line, creation time."""
    return {
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "command": command or _command_line(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _command_line() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {spec.name}" if spec else Path(sys.argv[0]).name or "python"
    return " ".join([program, *map(shlex.quote, sys.argv[1:])])


def write(dataset: xr.Dataset, path: Path) -> None:
    """Write a Dataset as NetCDF, all of it or nothing (the file appears only when it is complete)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        dataset.to_netcdf(unfinished, engine="h5netcdf")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path) -> xr.Dataset:
    """Read a Dataset; raises `UserError` if the file is missing or is no result of this project."""
    if not path.is_file():
        raise UserError(f"{path}: no such result file.")
    try:
        dataset = xr.load_dataset(path, engine="h5netcdf")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable NetCDF file: {error}") from error
    missing = {"model", "image", "layer"} - set(map(str, dataset.dims))
    if missing:
        raise UserError(
            f"{path} has no dimension {', '.join(sorted(missing))}, so it was not written by these commands."
        )
    return dataset


def merge_models(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join results of several models along `model`; what a shallower or narrower one lacks is NaN."""
    if len(datasets) == 1:
        return datasets[0]
    variables = [set(dataset.data_vars) for dataset in datasets]
    if any(names != variables[0] for names in variables):
        raise UserError("these results hold different statistics, so they cannot be merged.")
    return xr.concat(
        datasets,
        dim="model",
        join="outer",
        combine_attrs="override",
        data_vars="all",
        coords="minimal",
        compat="override",
    )


# unfinished runs -----------------------------------------------------------------------------------------------------


def run_key(facts: dict[str, Any]) -> str:
    """What identifies a run, as text: an unfinished file continues only the very same run."""
    return json.dumps(facts, sort_keys=True)


def read_unfinished(path: Path, key: str) -> xr.Dataset | None:
    """The state of an interrupted run, or None if there is none; `UserError` if it belongs to another run."""
    if not path.is_file():
        return None
    try:
        state = xr.load_dataset(path, engine="h5netcdf")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} should hold an interrupted run and cannot be read ({error}). Delete it to start anew."
        ) from error
    if state.attrs.get("run") != key:
        before, now = json.loads(state.attrs.get("run", "{}")), json.loads(key)
        changed = [fact for fact in sorted(before.keys() | now.keys()) if before.get(fact) != now.get(fact)]
        raise UserError(
            f"{path} holds an interrupted run with other {', '.join(changed) or 'facts'}. Repeat that command to "
            "finish it, delete the file to drop it, or choose another --output."
        )
    return state


def finish(states: Sequence[xr.Dataset]) -> xr.Dataset:
    """The result of one run, from the state of all its shards, which must be complete and of the same run.

    Raises `UserError` if shards are missing, doubled, unfinished or of different runs.
    """
    first = states[0]
    if any(state.attrs["run"] != first.attrs["run"] for state in states):
        raise UserError("these shards belong to different runs.")
    shards = sorted(int(state.attrs["shard"]) for state in states)
    if shards != list(range(int(first.attrs["shards"]))):
        raise UserError(f"shards {shards} are here, 0 … {int(first.attrs['shards']) - 1} are needed.")
    open_shards = [int(state.attrs["shard"]) for state in states if not state.attrs["complete"]]
    if open_shards:
        raise UserError(f"shards {open_shards} are not complete: run them again to finish them.")
    skipped = sorted({name for state in states for name in json.loads(state.attrs["skipped"])})
    used = [state for state in states if state.sizes["image"]]  # a shard may have had no picture that could be read
    if not used:
        raise UserError("not one picture could be used.")
    joined = xr.concat(
        used, dim="image", data_vars="minimal", coords="minimal", compat="override", combine_attrs="override"
    ).sortby("position")
    sums = [str(name) for name in joined.data_vars if str(name).endswith(SUM)]
    result = joined.drop_vars([*sums, "position"])
    for name in sums:
        total = ExactSum.zeros(joined[name].shape[1:])
        for part in range(2):
            for state in used:
                total.add(state[name].values[part])
        mean = (total.value() / joined.sizes["image"]).astype(np.float32)
        result[name.removesuffix(SUM)] = (joined[name].dims[1:], mean, joined[name].attrs)
    result.attrs = {"skipped": json.dumps(skipped)}
    return result
