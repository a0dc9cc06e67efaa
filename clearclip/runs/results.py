"""What every result on disk shares: where it came from, how it is written, how an interrupted run is found again."""

import glob
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from clearclip.errors import UserError

if TYPE_CHECKING:
    from clearclip.models.backbone import Backbone

LIBRARIES = ("torch", "timm", "open_clip_torch", "numpy", "xarray", "pillow")
SAVE_EVERY = 20.0  # seconds between two writes of an unfinished run


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
    """Read a Dataset; raises `UserError` if the file is missing or no NetCDF file."""
    if not path.is_file():
        raise UserError(f"{path}: no such result file.")
    try:
        return xr.load_dataset(path, engine="h5netcdf")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable NetCDF file: {error}") from error


def about_model(model: "Backbone") -> dict[str, object]:
    """What a result says of a model, along its dimension `model`."""
    return {
        "architecture": model.architecture,
        "weights": model.weights.name,
        "weights_sha256": model.weights.sha256,
        "random_weights": model.weights.random,
        "precision": model.precision,
        "preprocessing": str(model.preprocessing),
        "patch_size": model.patch_size,
        "prefix_tokens": model.prefix_tokens,
    }


def unfinished(output: Path, *parts: str) -> Path:
    """Where a run keeps what it has done so far: a hidden file beside its output.

    >>> unfinished(Path("results/entropy.nc"), "clip_vitb16").as_posix()
    'results/.entropy.clip_vitb16.unfinished.nc'
    """
    name = ".".join(re.sub(r"[^\w.+-]", "_", part) for part in parts)
    return output.with_name(f".{output.stem}.{name}.unfinished.nc")


def discard(files: Iterable[Path]) -> None:
    """Delete unfinished files whose result is written, those of every process, and what a killed one left half written."""
    for file in files:
        name = f"{glob.escape(file.stem)}*{file.suffix}"
        for one in (*file.parent.glob(name), *file.parent.glob(f".{name}.*.tmp")):
            one.unlink(missing_ok=True)


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
