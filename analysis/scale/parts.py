"""A part of a stream on disk: the values of single pictures as Parquet, and beside them what the whole needs of them.

`00003/00000.parquet` has a row for every picture of the first part of the fourth shard, and `00003/00000.npz` its sums. Each
appears complete or not at all. The second is written last and knows the digest of the first, so a part is there when it is.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import xarray as xr

from analysis.probes.store import SUM
from analysis.scale.sources import Example
from clearclip import outputs
from clearclip.errors import UserError
from clearclip.models.checkpoint import file_digest
from clearclip.runs import checksum, unfinished_files

ROWS, SUMS = ".parquet", ".npz"
POWERS = "_powers"  # arrays that hold the sums of the values of single pictures, and of their squares


class Facts(NamedTuple):
    """What a part says of itself."""

    run: str  # what identifies the run
    images: int  # that could be used
    examples: int  # that were there
    last: bool  # of the shard
    stamp: str  # of the shard
    content: str  # SHA-256 of names and bytes
    rows: str  # SHA-256 of the Parquet file
    skipped: list[str]  # a message for each picture that could not be used


class Sums(NamedTuple):
    """What the whole needs of a part: arrays by the names of statistics with `SUM` or `POWERS`, both (2, …)."""

    facts: Facts
    arrays: dict[str, np.ndarray]


class Part(NamedTuple):
    """Consecutive pictures of one shard, which one process measures at once."""

    shard: int
    number: int  # within the shard
    start: int  # of its first picture within the shard
    last: bool  # of the shard
    examples: list[Example]

    @property
    def content(self) -> str:
        """The SHA-256 of names and bytes."""
        return sha256("\n".join(f"{example.name}\n{example.digest}" for example in self.examples).encode()).hexdigest()


def cut(examples: Iterator[Example], pictures: int, size: int) -> Iterator[tuple[list[Example], bool]]:
    """Examples in parts of so many pictures, or so many bytes if that is less, and whether a part is the last.

    >>> examples = (Example(str(number), bytes(4)) for number in range(3))
    >>> [(len(part), last) for part, last in cut(examples, pictures=2, size=100)]
    [(2, False), (1, True)]
    """
    part: list[Example] = []
    held = 0
    for example in examples:
        if len(part) == pictures or (part and held + len(example.content) > size):
            yield part, False
            part, held = [], 0
        part.append(example)
        held += len(example.content)
    yield part, True


class Folder:
    """The parts of one run over one stream.

    Args:
        path: where they lie.
        key: what identifies the run.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    def write(self, part: Part, state: xr.Dataset, model: str, shard: str, stamp: str) -> None:
        """Keep what was measured of a part: the state of a `Collector` that has seen its pictures."""
        content = io.BytesIO()
        pq.write_table(_rows(part, state, model, shard), content, compression="zstd", use_dictionary=["model", "shard"])
        rows = self._file(part.shard, part.number).with_suffix(ROWS)
        outputs.write(rows, content.getbuffer())
        facts = Facts(
            self.key,
            int(state.attrs["images"]),
            len(part.examples),
            part.last,
            stamp,
            part.content,
            sha256(content.getbuffer()).hexdigest(),
            json.loads(state.attrs["skipped"]),
        )
        sums = io.BytesIO()
        np.savez(sums, facts=json.dumps(facts), **_sums(state))  # type: ignore[arg-type]
        outputs.write(self._file(part.shard, part.number), checksum.sealed(sums.getbuffer()))

    def read(self, shard: int, number: int) -> Sums | None:
        """The sums of a part, or None if it is not there; also, with a warning, if it is damaged.

        Raises: `UserError` if it is of another run.
        """
        file = self._file(shard, number)
        if not file.is_file():
            return None
        content = checksum.unsealed(file.read_bytes())
        if content is not None:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                sums = Sums(Facts(*json.loads(str(arrays["facts"]))), {k: arrays[k] for k in arrays if k != "facts"})
            if sums.facts.run != self.key:
                raise unfinished_files.of_another_run(file, sums.facts.run, self.key)
            rows = file.with_suffix(ROWS)
            if rows.is_file() and file_digest(rows) == sums.facts.rows:
                return sums
        warnings.warn(f"{file} or the rows beside it are damaged, so the part is measured anew.", stacklevel=2)
        return None

    def of_shard(self, shard: int) -> Iterator[Sums]:
        """The parts of a shard in their order, up to the first one that is not there."""
        number = 0
        while (part := self.read(shard, number)) is not None:
            yield part
            if part.facts.last:
                return
            number += 1

    def refuse_another_run(self) -> None:
        """Raise a `UserError` if the folder holds parts of another run, with what differs."""
        if file := min(self.path.glob("*/*" + SUMS), default=None):
            self.read(int(file.parent.name), int(file.stem))

    def _file(self, shard: int, number: int) -> Path:
        return self.path / f"{shard:05}" / f"{number:05}{SUMS}"


def open_parts(folder: Path | str) -> pyarrow.dataset.Dataset:
    """The values of every picture that was measured in a stream, of all models, read only as far as they are asked for.

    Args:
        folder: what a command has written beside its Dataset, such as results/statistics.parts, also while it still runs.

    Returns:
        A `pyarrow.dataset.Dataset` with one row per model and picture. Columns are `model`, `shard`, `position` in it, `image`
        (its name), `sha256` of its bytes, and the statistics by layer, feature and tokens, such as entropy.12.X_sum.patches.

    Raises: `UserError` if there are no parts in the folder.
    """
    written = sorted(Path(folder).rglob("*" + SUMS))
    if not written:
        raise UserError(f"{folder} has no parts of a stream: name the .parts folder that a command has written.")
    files = [file.with_suffix(ROWS) for file in written]
    first = {
        file.parents[1]: file for file in reversed(files)
    }  # of every model, whose layers and statistics are its own
    schema = pa.unify_schemas([pq.read_schema(file) for _, file in sorted(first.items())])
    return pyarrow.dataset.dataset(list(map(str, files)), schema=schema, format="parquet")


def _rows(part: Part, state: xr.Dataset, model: str, shard: str) -> pa.Table:
    """One row per picture that could be used."""
    positions = state.position.values
    columns: dict[str, Any] = {
        "model": pa.array([model] * len(positions), pa.string()),
        "shard": pa.array([shard] * len(positions), pa.string()),
        "position": part.start + positions,
        "image": pa.array([part.examples[position].name for position in positions], pa.string()),
        "sha256": pa.array([part.examples[position].digest for position in positions], pa.string()),
    }
    for name in _of_pictures(state):
        values = state[name]  # (image, layer, feature, tokens)
        labels = product(*(values[dim].values.tolist() for dim in values.dims[1:]))
        flat = values.values.reshape(len(positions), prod(values.shape[1:]))
        columns |= {f"{name}.{'.'.join(map(str, label))}": column for label, column in zip(labels, flat.T, strict=True)}
    return pa.table(columns)


def _sums(state: xr.Dataset) -> dict[str, np.ndarray]:
    """What the whole needs of a part: sums over its pictures."""
    sums = {str(name): values.values for name, values in state.data_vars.items() if str(name).endswith(SUM)}
    for name in _of_pictures(state):
        values = state[name].values.astype(np.float64)
        sums[name + POWERS] = np.stack([(values**power).sum(0) for power in (1, 2)])
    return sums


def _of_pictures(state: xr.Dataset) -> list[str]:
    """The statistics of single pictures."""
    return [str(name) for name, values in state.data_vars.items() if "image" in values.dims and name != "position"]
