"""Files that hold a run while it grows: hidden beside its output, continued by the same command, deleted at the end."""

from __future__ import annotations

import glob
import io
import json
import re
import warnings
from collections.abc import Callable, Iterable
from itertools import chain, count, product
from pathlib import Path
from typing import Any

import xarray as xr

from clearclip import outputs
from clearclip.errors import UserError
from clearclip.runs import checksum, results


def beside(output: Path, *parts: str) -> Path:
    """Where a run keeps what it has done so far: a hidden file beside its output.

    >>> beside(Path("results/entropy.nc"), "clip_vitb16").as_posix()
    'results/.entropy.nc.clip_vitb16.unfinished.nc'
    """
    name = ".".join(map(file_name, parts))
    return output.with_name(f".{output.name}.{name}.unfinished.nc")


def file_name(name: str) -> str:
    """What a file is called after a model or a data set.

    >>> file_name("open_clip:ViT-B-16/openai")
    'open_clip_ViT-B-16_openai'
    """
    return re.sub(r"[^\w.+-]", "_", name)


def parts_of(output: Path) -> Path:
    """The folder for the results of single pictures, where they are too many for one file.

    >>> parts_of(Path("results/entropy.nc")).as_posix()
    'results/entropy.parts'
    """
    return output.with_suffix(".parts")


def run_key(facts: dict[str, Any]) -> str:
    """What identifies a run, as text: an unfinished file continues only the very same run."""
    return json.dumps(facts, sort_keys=True)


def write(state: xr.Dataset, path: Path) -> None:
    """Keep a state, all of it or nothing, with a checksum; raises `outputs.Unwritable`."""
    outputs.write(path, checksum.sealed(results.packed(state)))


def read(path: Path, key: str, fault: Callable[[xr.Dataset], str]) -> xr.Dataset | None:
    """The state of an interrupted run, or None if there is none that can be continued.

    A damaged one is set aside with a warning. One of another run that has not counted a picture yet is passed over.

    Args:
        path: where the state is kept.
        key: what identifies the run.
        fault: why a state of this run makes no sense, or nothing.

    Raises: `UserError` for a state of another run, with what differs.
    """
    if not path.is_file():
        return None
    state = _checked(path.read_bytes())
    if state is None:
        reason = "its checksum does not fit its content"
    elif state.attrs.get("run") == key:
        reason = fault(state)
    elif int(state.attrs.get("images", 0)) > 0:
        raise of_another_run(path, state.attrs["run"], key)
    else:
        return None
    if not reason:
        return state
    warnings.warn(
        f"{path} is damaged: {reason}. It is kept as {set_aside(path, 'damaged')}, and the run starts anew.",
        stacklevel=2,
    )
    return None


def _checked(content: bytes) -> xr.Dataset | None:
    """The state that a file holds, or None for damaged content, which HDF5 must not see."""
    state = checksum.unsealed(content)
    return None if state is None else xr.load_dataset(io.BytesIO(state), engine="h5netcdf")


def of_another_run(path: Path, key_before: str, key: str) -> UserError:
    """What to raise where a file was left by a run with another key, with the facts that differ."""
    changed = differences(json.loads(key_before), json.loads(key))
    return UserError(
        f"{path} holds an interrupted run with other {changed}. Repeat that command to finish it, start "
        "anew with --restart, which sets it aside, or choose another --output."
    )


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Which facts of two runs differ, and what they were and are, where that is short; nothing if none does.

    >>> differences({"layers": [3], "features": ["X_sum"]}, {"layers": [3, 6], "features": ["X_sum"]})
    'layers ([3] → [3, 6])'
    """
    changed = [fact for fact in sorted(before.keys() | now.keys()) if before.get(fact) != now.get(fact)]
    return ", ".join(fact + _change(before.get(fact), now.get(fact)) for fact in changed)


def _change(before: Any, now: Any) -> str:
    """What a fact was and is, if that can be said in a few words.

    >>> _change(None, 3), _change("fp16", "bf16"), _change(["clip"], ["clip", "a recipe with many knobs turned"])
    (' (none → 3)', ' (fp16 → bf16)', '')
    >>> _change(64 * "0", 64 * "f")
    ' (00000000… → ffffffff…)'
    """
    texts = [
        "none" if value is None else value if isinstance(value, str) else json.dumps(value) for value in (before, now)
    ]
    texts = [f"{text[:8]}…" if re.fullmatch("[0-9a-f]{64}", text) else text for text in texts]
    return f" ({texts[0]} → {texts[1]})" if max(map(len, texts)) <= 40 else ""


def set_aside(path: Path, why: str) -> Path:
    """Rename a file, so that it is out of the way and nothing is lost; returns its new name, which no file had."""
    aside = path.with_name(f"{path.name}.{why}")
    others = (aside.with_name(f"{aside.name}-{number}") for number in count(2))
    return path.replace(next(name for name in chain([aside], others) if not name.exists()))


def set_all_aside(output: Path) -> None:
    """Set aside whatever interrupted runs have left for an output, and say so."""
    parts = parts_of(output)
    for path in [*_all_of(output), *([parts] if parts.is_dir() else [])]:
        warnings.warn(f"{path} is set aside as {set_aside(path, 'dropped')}.", stacklevel=2)


def write_result(dataset: xr.Dataset, output: Path) -> None:
    """Write the result of long runs over models (and data sets), and delete the unfinished files it was made of.

    Raises: `UserError` if it cannot be written, with the files from which the same command goes on.
    """
    names = [dataset[dim].values.tolist() for dim in ("model", "dataset") if dim in dataset.dims]
    unfinished = [beside(output, *parts) for parts in product(*names)]
    try:
        results.write(dataset, output)
    except outputs.Unwritable as error:
        kept = ", ".join(str(path) for file in unfinished for path in _belonging(file))
        way_on = f"It goes on from what is kept in {kept}." if kept else "Nothing of the run is kept."
        raise UserError(f"{error} {way_on}") from error
    discard(unfinished)


def discard_older(output: Path) -> None:
    """Delete what runs had left for an output before it was written, which whoever wrote it did not live to delete."""
    written = output.stat().st_mtime
    for path in _all_of(output):
        if path.stat().st_mtime <= written:
            path.unlink(missing_ok=True)


def _all_of(output: Path) -> list[Path]:
    """The unfinished files of all runs for one output."""
    return sorted(output.parent.glob(f".{glob.escape(output.name)}.*.unfinished*.nc"))


def discard(files: Iterable[Path]) -> None:
    """Delete unfinished files, those of every process and part, and what a killed process left half written."""
    for file in files:
        for path in _belonging(file):
            path.unlink(missing_ok=True)
        outputs.remove_leftovers(file.parent, _pattern(file))


def _belonging(file: Path) -> list[Path]:
    """The unfinished files of one run: those of every process and part."""
    return sorted(file.parent.glob(_pattern(file)))


def _pattern(file: Path) -> str:
    return f"{glob.escape(file.stem)}*{file.suffix}"
