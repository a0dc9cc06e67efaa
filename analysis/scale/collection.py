"""Statistics over a stream of pictures, in memory that does not grow with it.

What grows with the number of pictures in `collect` is what the one long loop has of each: its entry, its record, its values, and
a state that is written anew with all of them. So the loop is driven here over one part of the stream after another, each a short
run of its own whose results are on disk when the next begins. Processes share shards, or the parts of shards if there are fewer
shards than processes. Parts and batches are cut by the pictures alone, so the result has the same bits whoever measured them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr
from tqdm.auto import tqdm

from analysis.probes import store
from analysis.probes.collection import named, with_model
from analysis.probes.collector import Collector
from analysis.probes.images import Picture
from analysis.probes.statistics import FIGURE_4, Statistic
from analysis.scale import sources, summary
from analysis.scale.parts import Folder, Part, cut
from analysis.scale.sources import Shards
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.runs import unfinished_files
from clearclip.runs.processes import Processes, processes
from clearclip.runs.stream import stream_share

PART = 1024  # pictures; what a process loses at most when it is killed
PART_BYTES = 2**27  # of their files, of which two parts are in memory: one is measured, the next is read

Item = TypeVar("Item")


def collect_shards(
    model: ModelLike,
    source: str | Shards,
    folder: Path | str,
    statistics: Sequence[str] | dict[str, Statistic] = FIGURE_4,
    *,
    layers: Sequence[int] | None = None,
    features: Sequence[str] = FEATURES,
    image_size: int | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    strict: bool = False,
    part: int = PART,
    compiled: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Measure X_res, X_attn and X_sum of every block over a stream of pictures, of which only a few hundred are in memory.

    Args:
        model: what `clearclip.load` gives, a live module, or a name.
        source: as for `analysis.scale.sources.shards`, or `Shards` of your own.
        folder: where the values of single pictures are written as they come, for `analysis.open_parts`. If parts of the same
            run are there already, it continues behind them.
        statistics, layers, features, image_size, batch_size, strict, compiled, progress: as for `analysis.collect`.
        limit: only the first so many pictures.
        part: pictures that are written at once.

    Returns:
        Means and standard deviations over the pictures along `moment`, and what is averaged over them, with dimension `model`
        of length 1: `stream statistics` of docs/format.md.

    Raises: `UserError` as `analysis.collect` does, and for a folder of another run, for pictures that have changed since it was
    interrupted, and for a shard that cannot be read to its end.
    """
    model, shards = as_backbone(model), sources.shards(source) if isinstance(source, str) else source
    if batch_size < 1 or part < 1 or (limit is not None and limit < 1):
        raise UserError(f"batch size {batch_size}, parts of {part}, limit {limit}: each is at least 1.")
    measurement = partial(
        Collector,
        model,
        statistics=named(statistics),
        layers=model.layers(layers),
        features=tuple(features),
        image_size=image_size,
        batch_size=batch_size,
        compiled=compiled,
    )
    collector = measurement([])
    measurement = partial(measurement, reader=collector.reader)  # compiled once, and not for every part
    run = Folder(Path(folder), _key(collector, shards, limit, part))
    group = processes()
    measure_share(measurement, shards, run, group, limit=limit, strict=strict, part=part, progress=progress)
    group.gather(None)  # all parts are written
    first = summary.of_parts(run, shards, collector, limit) if group.number == 0 else None
    whole = group.gather(first)[0].expand_dims(model=[model.name])
    return summary.described(with_model(whole, model, image_size), shards.name)


def collect_models(
    loaders: Sequence[Callable[[], Backbone]],
    source: str,
    statistics: Sequence[str] | dict[str, Statistic],
    folder: Path,
    **how: Any,
) -> xr.Dataset:
    """`collect_shards` with several models, each with its own folder in `folder`.

    Raises: `UserError` as `collect_shards` does; under torchrun `Finished` in all processes but the first.
    """
    shards, datasets = sources.shards(source), []
    for load in loaders:
        model = load()
        own = folder / unfinished_files.file_name(model.name)
        datasets.append(collect_shards(model, shards, own, statistics, **how))
    merged = store.merge_models(datasets)
    processes().leave_the_rest_to_the_first()
    return merged


def measure_share(
    measurement: Callable[[list[Picture]], Collector],
    shards: Shards,
    run: Folder,
    group: Processes,
    *,
    limit: int | None = None,
    strict: bool = False,
    part: int = PART,
    progress: bool = True,
) -> None:
    """Measure and write those parts of one process of a group that are not there yet; arguments as for `collect_shards`."""
    run.refuse_another_run()
    alone = group.alone()
    bar = tqdm(unit="img", desc=measurement([]).title, disable=not progress or group.number > 0)
    with bar:
        for piece in ahead(to_measure(shards, run, group, limit, part)):
            label = shards.labels[piece.shard]
            collector = measurement([example.picture(label) for example in piece.examples])
            state = stream_share(collector, alone, strict=strict, progress=False)
            run.write(piece, state, collector.title, label, shards.stamp(piece.shard))
            bar.update(len(piece.examples))
            del piece, collector, state  # or its pictures would be held while a third part is read


def to_measure(shards: Shards, run: Folder, group: Processes, limit: int | None, size: int) -> Iterator[Part]:
    """The parts that a process has to measure, with the bytes of their pictures.

    Raises: `UserError` where pictures of a part that is there already have changed.
    """
    divided = limit is not None or len(shards.labels) < group.count  # every process reads all, and measures its parts
    left = limit
    for shard in range(0 if divided else group.number, len(shards.labels), 1 if divided else group.count):
        if left == 0:
            return
        if not divided and _is_complete(shards, run, shard):
            continue
        start = 0
        for number, (examples, last) in enumerate(cut(islice(shards.read(shard), left), size, PART_BYTES)):
            part = Part(shard, number, start, last, examples)
            if (not divided or (shard + number) % group.count == group.number) and not _is_there(shards, run, part):
                yield part
            start += len(examples)
        left = None if left is None else left - start


def _is_complete(shards: Shards, run: Folder, shard: int) -> bool:
    """Whether all parts of a shard are there, and it is what it was, so that it need not be read."""
    stamp, last = shards.stamp(shard), False
    for sums in run.of_shard(shard):
        if not stamp or sums.facts.stamp != stamp:
            return False
        last = bool(sums.facts.last)
    return last


def _is_there(shards: Shards, run: Folder, part: Part) -> bool:
    """Whether a part is there and its pictures are what they were."""
    sums = run.read(part.shard, part.number)
    if sums is None:
        return False
    stamp = shards.stamp(part.shard)
    if (not stamp or sums.facts.stamp != stamp) and sums.facts.content != part.content:
        raise UserError(
            f"{shards.labels[part.shard]} was changed after pictures of it were measured, which are kept in {run.path}. Put back "
            "what it was to finish that run, or start anew with --restart or in another folder."
        )
    return True


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, of which a thread fetches the next one while one is used.

    >>> list(ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def _key(collector: Collector, shards: Shards, limit: int | None, part: int) -> str:
    """What identifies a run over a stream."""
    facts = {name: fact for name, fact in collector.key().items() if name != "images"}
    labels = hashlib.sha256(json.dumps(list(shards.labels)).encode()).hexdigest()
    return unfinished_files.run_key(
        facts | {"pictures": shards.name, "shards": labels, "limit": limit, "part": [part, PART_BYTES]}
    )
