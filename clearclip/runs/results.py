"""What every result on disk shares: where it came from, and how it is written and read."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr

from clearclip import outputs
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.runs import checksum, netcdf, validation
from clearclip.textfiles import readable

LIBRARIES = ("torch", "timm", "open_clip_torch", "numpy", "xarray", "pillow")


def provenance(command: str | None = None) -> dict[str, str]:
    """Attributes that every result carries: library versions, command line, creation time."""
    return {
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "command": command or _command_line(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _command_line() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {spec.name.removesuffix('.__main__')}" if spec else Path(sys.argv[0]).name or "python"
    return readable(" ".join([program, *map(shlex.quote, sys.argv[1:])]))


def write(dataset: xr.Dataset, path: Path) -> None:
    """Write a Dataset as NetCDF, all of it or nothing (the file appears only when it is complete)."""
    content = packed(dataset.assign_attrs(validation.stamp(dataset)))
    outputs.write(path, checksum.sealed(content))


def packed(dataset: xr.Dataset) -> memoryview:
    """A Dataset as the content of a NetCDF file."""
    return dataset.to_netcdf(engine="h5netcdf")


def read(path: Path, kind: str = "") -> xr.Dataset:
    """Read a Dataset, checked against its format.

    Args:
        kind: of `clearclip.runs.formats.FORMATS`; without one, any NetCDF file is read.

    Raises: `UserError` if the file is missing, damaged or beyond memory, or holds something else.
    """
    with netcdf.opened(path) as lazy:
        dataset = lazy.load()
    if kind:
        validation.check(dataset, kind, path)
    return dataset


def about_model(model: Backbone) -> dict[str, object]:
    """What a result says of a model, along its dimension `model`."""
    return {
        "architecture": model.architecture,
        "weights": model.weights.name,
        "weights_sha256": model.weights.sha256,
        "random_weights": model.weights.random,
        "precision": model.precision,
        "positions": model.resizing,
        "interventions": model.interventions,
        "preprocessing": str(model.preprocessing),
        "patch_size": model.patch_size,
        "prefix_tokens": model.prefix_tokens,
    }


def shipped_name(architecture: str, weights: str) -> str:
    """The name of a model that has the weights that come with the package, or nothing.

    >>> shipped_name("zoo:clip_tiny", "clip_tiny, shipped, trained on drawn scenes")
    'clip_tiny'
    >>> shipped_name("zoo:clip_tiny", "after.safetensors")
    ''
    """
    name = architecture.removeprefix("zoo:")
    return name if weights.startswith(f"{name}, shipped") else ""


def shipped_models(dataset: xr.Dataset) -> dict[str, str]:
    """Which models of a result have the weights that come with the package: what the result calls them → their names."""
    columns = (np.atleast_1d(dataset[name]).astype(str) for name in ("model", "architecture", "weights"))
    names = {model: shipped_name(architecture, weights) for model, architecture, weights in zip(*columns, strict=True)}
    return {model: name for model, name in names.items() if name}


def by_model(parts: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """One Dataset for each model, from parts of one model and one data set each, in their order.

    Raises: `UserError` if a data set was changed between two models.
    """
    for name in dict.fromkeys(part.dataset.item() for part in parts):
        refuse_other_data(name, (part.data_sha256.item() for part in parts if part.dataset.item() == name))
    models = dict.fromkeys(part.model.item() for part in parts)
    return [joined([part for part in parts if part.model.item() == model], "dataset") for model in models]


def refuse_other_data(what: str, digests: Iterable[str]) -> None:
    """Raise a `UserError` if results that are to be compared are of pictures with other contents."""
    if len(set(digests)) > 1:
        raise UserError(
            f"{what}: the models did not see the same data, because files were changed between their runs or the lists "
            "differ. Measure all of them again, with --restart."
        )


def joined(parts: Sequence[xr.Dataset], dim: str) -> xr.Dataset:
    """Parts that differ along one dimension only; what does not have it is that of the first."""
    if len(parts) == 1:
        return parts[0]
    how = {"combine_attrs": "override", "coords": "minimal", "compat": "override", "join": "exact"}
    return xr.concat(parts, dim, data_vars="minimal", **how)  # type: ignore[call-overload]


def skipped(datasets: Sequence[xr.Dataset]) -> str:
    """The attribute `skipped` of joined results: what could not be used, each message once."""
    messages = [message for dataset in datasets for message in json.loads(dataset.attrs.get("skipped", "[]"))]
    return json.dumps(list(dict.fromkeys(messages)))
