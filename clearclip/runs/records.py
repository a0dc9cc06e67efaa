"""What the pictures of a run were when they were counted, kept in its state and compared when it continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from clearclip.datasets.files import shortened
from clearclip.entries import Entry, Record, is_unchanged
from clearclip.errors import UserError

WORKERS = 4  # files are hashed without Python's lock
DIM = "seen"


def with_records(state: xr.Dataset, records: Mapping[int, Record]) -> xr.Dataset:
    """A state with the records of its pictures by their indices, along the dimension `seen`."""
    stamps, contents = ([record[part].encode() for record in records.values()] for part in range(2))
    return state.assign(
        seen_index=(DIM, np.array(list(records), np.int64)),
        seen_stamp=(DIM, np.array(stamps, np.bytes_)),
        seen_content=(DIM, np.array(contents, np.bytes_)),
    )


def records_of(state: xr.Dataset) -> dict[int, Record]:
    """The records in a state by the indices of their pictures."""
    stamps, contents = (np.char.decode(state[name].values, "utf-8") for name in ("seen_stamp", "seen_content"))
    return {
        int(index): Record(str(stamp), str(content))
        for index, stamp, content in zip(state.seen_index.values, stamps, contents, strict=True)
    }


def contents_of(states: Sequence[xr.Dataset]) -> dict[int, str]:
    """The contents of every picture of a run, in the order of the pictures, from the states of all its processes."""
    records = {index: record for state in states for index, record in records_of(state).items()}
    return {index: records[index].content for index in sorted(records)}


def refuse_changed(entries: Sequence[Entry[Any]], records: Mapping[int, Record], file: Path) -> None:
    """Raise a `UserError` that names the pictures which are not what they were when an interrupted run counted them."""
    with ThreadPoolExecutor(WORKERS) as pool:
        same = pool.map(lambda index: is_unchanged(entries[index], records[index]), records)
        changed = [_where(entries[index]) for index, unchanged in zip(records, same, strict=True) if not unchanged]
    if changed:
        raise UserError(
            f"changed after the interrupted run in {file} had counted {len(changed)} of its pictures: "
            f"{shortened(changed)}. Put back what they were to finish that run, or start anew with --restart."
        )


def _where(entry: Entry[Any]) -> str:
    return " with ".join(map(str, entry.files)) or entry.name
