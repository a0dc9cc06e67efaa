"""The one long loop: read ahead, take a share, count, save, go on after Ctrl-C, finish.

A `Measurement` says what is counted; `stream` drives it over its pictures and knows all the rest: processes, files, the
progress bar, and pictures that cannot be used.
"""

from __future__ import annotations

import json
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import xarray as xr
from tqdm.auto import tqdm

from clearclip.contents import noted
from clearclip.entries import Entry, Record, record
from clearclip.errors import UserError
from clearclip.outputs import Unwritable
from clearclip.pictures import BadImage
from clearclip.runs import results, shares, unfinished_files
from clearclip.runs.processes import Processes, processes
from clearclip.runs.records import records_of, refuse_changed, with_records
from clearclip.runs.shares import Done

P = TypeVar("P")  # a picture that has been read
T = TypeVar("T")  # what a measurement has counted so far
Item = TypeVar("Item")

AHEAD = 2  # batches that are read before they are wanted …
HELD = 2**29  # … unless one takes more bytes than this
WORKERS = 4  # Pillow decodes and resizes without holding Python's lock
SAVE_EVERY = 20.0  # seconds between two writes of an unfinished run
BAR_EVERY = 2.0  # seconds between two looks at the running score, for which the device has to be waited for


class Measurement(ABC, Generic[P, T]):
    """What is counted over many pictures, without a word about files, processes or progress bars.

    A total is never changed: `update` returns the next one. So Ctrl-C finds a batch in it or not, never half of one.
    """

    title: str
    """What the progress bar is called."""
    source: str = ""
    """What the pictures are called when not one of them could be used."""
    entries: Sequence[Entry[Any]]
    """The pictures before they are read."""
    indices: Sequence[int]
    """Those of them that are counted, as numbers for `read`, in their order."""
    batch_size: int
    """Pictures that `update` takes at once. Batches are never divided, so that they give the same bits anywhere."""

    @abstractmethod
    def key(self) -> dict[str, Any]:
        """The facts that identify a run, for JSON: an interrupted one is continued only with the same facts."""

    @abstractmethod
    def read(self, index: int) -> P:
        """One picture, called in a thread; raises `BadImage` for one that cannot be used."""

    def held(self, picture: P) -> int:
        """Bytes that a picture takes while it is read and until it is counted, where they matter."""
        return 0

    def running(self) -> AbstractContextManager[Any]:
        """What has to be in place while pictures are counted, such as an attached probe."""
        return nullcontext()

    @abstractmethod
    def start(self) -> T:
        """The total before the first picture."""

    @abstractmethod
    def update(self, total: T, pictures: Sequence[P]) -> T:
        """The total with one more batch, of which at least one picture could be read."""

    @abstractmethod
    def state(self, total: T) -> xr.Dataset:
        """A total as it is kept in a file and sent between processes."""

    @abstractmethod
    def restore(self, state: xr.Dataset) -> T:
        """The total of a state."""

    @abstractmethod
    def finish(self, states: Sequence[xr.Dataset], images: int) -> xr.Dataset:
        """The result, from the states of all processes and the number of pictures that they used."""

    def standing(self, total: T) -> str:
        """The running score for the progress bar, or nothing."""
        return ""


def stream(
    measurement: Measurement[P, T], *, unfinished: Path | None = None, strict: bool = False, progress: bool = True
) -> xr.Dataset:
    """Drive a measurement over its pictures; under torchrun every process takes a share and returns the whole result.

    Args:
        measurement: what is counted.
        unfinished: a file that holds the run while it grows; if it is there already, the run continues from it.
        strict: raise on the first picture that cannot be used, instead of naming, counting and skipping it.
        progress: show a progress bar.

    Returns: what `measurement.finish` gives, with attributes `skipped` (a JSON list of messages) and provenance.
    Raises: `UserError` for an unfinished file of another run or of pictures that have changed since, or if not one picture
    could be used.
    """
    group = processes()
    state = stream_share(measurement, group, unfinished=unfinished, strict=strict, progress=progress)
    return join(group.gather(state), measurement.finish)


def stream_share(
    measurement: Measurement[P, T],
    group: Processes,
    *,
    unfinished: Path | None = None,
    strict: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """The state of one process of a group after its share of the batches, for `join`; arguments as for `stream`."""
    indices, size = measurement.indices, measurement.batch_size
    batches = group.share([indices[i : i + size] for i in range(0, len(indices), size)])
    key = unfinished_files.run_key(measurement.key() | {"processes": group.count})
    file = None if unfinished is None else group.own(unfinished)
    records: dict[int, Record] = {}  # of all pictures that were read, counted or not yet

    def state(done: Done) -> xr.Dataset:
        counted = {index: records[index] for batch in batches[: done.batches] for index in batch}
        return with_records(measurement.state(done.total), counted).assign_attrs(
            done.attributes(),
            run=key,
            source=measurement.source,
            shard=group.number,
            shards=group.count,
            complete=int(done.batches == len(batches)),
        )

    told = False

    def keep(done: Done) -> None:
        """Write the state; where that is not possible the run goes on, and says so once."""
        nonlocal told
        if file is None:
            return
        try:
            unfinished_files.write(state(done), file)
        except Unwritable as error:
            if not told:
                warnings.warn(
                    f"the run cannot be kept in {file}: {error.reason}. It continues, and an interruption costs what was "
                    f"measured since {'the last state there' if file.is_file() else 'its beginning'}.",
                    stacklevel=2,
                )
            told = True

    done = Done(0, 0, (), measurement.start())
    fault = partial(shares.fault, batches=batches, start=measurement.state(done.total))
    before = None if file is None else unfinished_files.read(file, key, fault)
    if file is not None and before is not None:
        records.update(records_of(before))
        refuse_changed(measurement.entries, records, file)
        done = shares.restored(before, measurement.restore(before))
    begun, saved, looked = done.batches, time.monotonic(), time.monotonic()
    bar = tqdm(
        total=sum(map(len, batches)),
        initial=sum(map(len, batches[:begun])),
        unit="img",
        desc=measurement.title,
        disable=not progress or group.number > 0,
    )
    with bar, torch.inference_mode(), measurement.running():
        try:
            for batch, read in read_ahead(partial(_read, measurement), batches[begun:], partial(_held, measurement)):
                pictures, seen = zip(*read, strict=True)
                records.update(zip(batch, seen, strict=True))
                done = _updated(measurement, done, batch, pictures, strict, group)
                bar.update(len(batch))
                now = time.monotonic()
                if not bar.disable and now - looked > BAR_EVERY:
                    bar.set_postfix_str(measurement.standing(done.total))
                    looked = now
                if now - saved > SAVE_EVERY:
                    keep(done)
                    saved = now
            if not bar.disable:
                bar.set_postfix_str(measurement.standing(done.total))
        finally:  # also after Ctrl-C
            if done.batches > begun:
                keep(done)
    return state(done)


def join(states: Sequence[xr.Dataset], finish: Callable[[Sequence[xr.Dataset], int], xr.Dataset]) -> xr.Dataset:
    """The result of a run from the states of all its shares, the same bits whichever process took which pictures.

    Raises: `UserError` if shares are missing, doubled, unfinished or of different runs, or not one picture could be used.
    """
    first = states[0]
    if any(state.attrs["run"] != first.attrs["run"] for state in states):
        raise UserError("these shards belong to different runs.")
    states = sorted(states, key=lambda state: int(state.attrs["shard"]))
    shards = [int(state.attrs["shard"]) for state in states]
    if shards != list(range(int(first.attrs["shards"]))):
        raise UserError(f"shards {shards} are here, 0 … {int(first.attrs['shards']) - 1} are needed.")
    incomplete = [int(state.attrs["shard"]) for state in states if not state.attrs["complete"]]
    if incomplete:
        raise UserError(f"shards {incomplete} are not complete: run them again to finish them.")
    images = sum(int(state.attrs["images"]) for state in states)
    if not images:
        of = f" of {first.attrs['source']}" if first.attrs["source"] else ""
        raise UserError(f"not one picture{of} could be used.")
    skipped = sorted(pair for state in states for pair in shares.skipped(state))
    result = finish(states, images)
    return result.assign_attrs(skipped=json.dumps([message for _, message in skipped]), **results.provenance())


def read_ahead(
    read: Callable[[Item], P], batches: Sequence[Sequence[Item]], held: Callable[[P], int] = lambda result: 0
) -> Generator[tuple[Sequence[Item], list[P]], None, None]:
    """Every batch with what `read` makes of its items, in order; threads read the next batches meanwhile.

    Args:
        read: what reads one item.
        batches: of items.
        held: bytes that a result takes. Behind a batch that takes more than `HELD`, nothing is read before it is wanted.

    >>> [results for _, results in read_ahead(lambda x: 2 * x, [[1, 2], [3]])]
    [[2, 4], [6]]
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="read") as pool:
        queue: deque[tuple[Sequence[Item], list[Future[P]]]] = deque()
        waiting = iter(batches)

        def begin(count: int) -> None:
            """Begin to read, until so many batches are being read."""
            for batch in islice(waiting, max(0, count - len(queue))):
                queue.append((batch, [pool.submit(read, item) for item in batch]))

        try:
            while True:
                begin(1)
                if not queue:
                    return
                batch, futures = queue.popleft()
                results = [future.result() for future in futures]
                if sum(map(held, results)) <= HELD:
                    begin(AHEAD)
                yield batch, results
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def attempt(entry: Entry[Any], read: Callable[[], P]) -> tuple[P | BadImage, Record]:
    """What reading a picture gives, or why it cannot be used; and a record of what the picture was."""
    picture: P | BadImage
    with noted() as notes:
        try:
            picture = read()
        except BadImage as error:
            picture = error
    return picture, record(entry, notes)


def tell_skipped(pictures: Iterable[object], strict: bool, group: Processes) -> None:
    """Name those of some pictures that are a `BadImage`, or, if `strict`, raise `UserError` for the first."""
    for error in pictures:
        if isinstance(error, BadImage):
            if strict:
                raise UserError(f"{error} (refused because of strict)")
            group.tell(f"skipped: {error}")


def _read(measurement: Measurement[P, T], index: int) -> tuple[P | BadImage, Record]:
    return attempt(measurement.entries[index], partial(measurement.read, index))


def _held(measurement: Measurement[P, T], read: tuple[P | BadImage, Record]) -> int:
    picture, _ = read
    return 0 if isinstance(picture, BadImage) else measurement.held(picture)


def _updated(
    measurement: Measurement[P, T],
    done: Done,
    batch: Sequence[int],
    pictures: Sequence[P | BadImage],
    strict: bool,
    group: Processes,
) -> Done:
    """One more batch; what could not be used of it is named."""
    bad = [(i, str(picture)) for i, picture in zip(batch, pictures, strict=True) if isinstance(picture, BadImage)]
    tell_skipped(pictures, strict, group)
    good = [picture for picture in pictures if not isinstance(picture, BadImage)]
    total = measurement.update(done.total, good) if good else done.total
    return Done(done.batches + 1, done.images + len(good), (*done.skipped, *bad), total)
