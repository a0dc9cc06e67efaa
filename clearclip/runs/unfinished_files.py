"""Files that hold a run while it grows: hidden beside its output, continued by the same command, deleted at the end."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import xarray as xr

from clearclip.errors import UserError
from clearclip.runs import results


def beside(output: Path, *parts: str) -> Path:
    """Where a run keeps what it has done so far: a hidden file beside its output.

    >>> beside(Path("results/entropy.nc"), "clip_vitb16").as_posix()
    'results/.entropy.clip_vitb16.unfinished.nc'
    """
    name = ".".join(re.sub(r"[^\w.+-]", "_", part) for part in parts)
    return output.with_name(f".{output.stem}.{name}.unfinished.nc")


def run_key(facts: dict[str, Any]) -> str:
    """What identifies a run, as text: an unfinished file continues only the very same run."""
    return json.dumps(facts, sort_keys=True)


def read(path: Path, key: str) -> xr.Dataset | None:
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


def write_result(dataset: xr.Dataset, output: Path) -> None:
    """Write the result of long runs over models (and data sets), and delete the unfinished files it was made of."""
    results.write(dataset, output)
    names = [dataset[dim].values.tolist() for dim in ("model", "dataset") if dim in dataset.dims]
    discard(beside(output, *parts) for parts in product(*names))


def discard(files: Iterable[Path]) -> None:
    """Delete unfinished files, those of every process and part, and what a killed process left half written."""
    for file in files:
        name = f"{glob.escape(file.stem)}*{file.suffix}"
        for path in (*file.parent.glob(name), *file.parent.glob(f".{name}.*.tmp")):
            path.unlink(missing_ok=True)
