"""Images → statistics of every block, reduced inside the forward pass → xarray Dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from analysis.probes import images as image_source
from analysis.probes import store
from analysis.probes.collector import Collector, finish
from analysis.probes.images import Picture
from analysis.probes.statistics import FIGURE_4, STATISTICS, Statistic
from clearclip.entries import digest_now
from clearclip.errors import UserError, closest
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.runs import results, unfinished_files
from clearclip.runs.processes import Processes, processes
from clearclip.runs.stream import join, stream, stream_share


def collect(
    model: ModelLike,
    images: Any = None,
    statistics: Sequence[str] | dict[str, Statistic] = FIGURE_4,
    *,
    layers: Sequence[int] | None = None,
    features: Sequence[str] = FEATURES,
    image_size: int | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    strict: bool = False,
    unfinished: Path | None = None,
    shard: tuple[int, int] | None = None,
    compiled: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Measure X_res, X_attn and X_sum of every block over images; one forward pass serves all statistics.

    Args:
        model: what `clearclip.load` gives, a live module, or a name.
        images: any kind of pictures, see `analysis.probes.images.pictures`; None for scikit-image's photographs.
        statistics: names from `analysis.probes.statistics.STATISTICS`, or a dict of your own `Statistic`s.
        layers: which layers, counted 1 … depth; None takes all.
        features: which of X_res, X_attn and X_sum.
        image_size: side in pixels; None is the weights' own size.
        batch_size: pictures in one forward pass.
        limit: only the first so many pictures.
        strict: raise on the first picture that cannot be read, instead of naming, counting and skipping it.
        unfinished: a file that holds the run while it grows; if it is there already, the run continues from it. Delete it
            once you have the result.
        shard: (which, of how many), for a share whose state is returned, for `result`. By default what torchrun says, and
            then every process returns the whole result.
        compiled: run the blocks and the statistics in one graph of `torch.compile`. The first batch waits for it, up to a few
            minutes; see `analysis.probes.compiled` for how far results differ, and docs/benchmarks.md for what is gained.
        progress: show a progress bar.

    Memory does not depend on the number of tokens or images (apart from one number per image, layer and statistic).
    Ctrl-C keeps what is done in `unfinished`; the same call then continues and gives the same bits as one that was never
    interrupted.

    Returns: the Dataset that `analysis.probes.store` describes, with dimension `model` of length 1.
    Raises: `UserError` for unknown statistics, unusable images, or non-finite values, naming image, layer and feature.

    >>> import clearclip
    >>> result = collect(clearclip.load("dino_vits16", random=True), limit=2, progress=False)
    >>> dict(result.entropy.sizes)
    {'model': 1, 'image': 2, 'layer': 12, 'feature': 3, 'tokens': 2}
    """
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: at least 1.")
    model = as_backbone(model)
    pictures = image_source.pictures(images, limit)
    measurement = Collector(
        model, pictures, named(statistics), model.layers(layers), tuple(features), image_size, batch_size, compiled
    )
    if shard is not None:
        group = Processes(*shard)
        return stream_share(measurement, group, unfinished=unfinished, strict=strict, progress=progress)
    dataset = stream(measurement, unfinished=unfinished, strict=strict, progress=progress)
    return describe_model(dataset, model, image_size, pictures)


def collect_models(
    loaders: Sequence[Callable[[], Backbone]],
    pictures: Sequence[Picture],
    statistics: Sequence[str] | dict[str, Statistic],
    output: Path,
    **how: Any,
) -> xr.Dataset:
    """Collect over the same pictures with several models; interrupted, the same call continues.

    Args:
        loaders: one function per model, as `clearclip.models.load` makes them, so that one model is in memory at a time.
        pictures: what `analysis.probes.images.pictures` gives.
        statistics: as for `collect`.
        output: where the Dataset will be written. Unfinished runs are kept beside it until `unfinished_files.write_result`.
        how: further arguments of `collect`.

    Returns: what `store.merge_models` makes of the results.
    Raises: `UserError` as `collect` does; under torchrun `Finished` in all processes but the first.
    """
    datasets = []
    for load in loaders:
        model = load()
        unfinished = unfinished_files.beside(output, model.name)
        datasets.append(collect(model, list(pictures), statistics, unfinished=unfinished, **how))
    merged = store.merge_models(datasets)
    processes().leave_the_rest_to_the_first()
    return merged


def result(
    states: Sequence[xr.Dataset], model: Backbone, images: Any = None, image_size: int | None = None
) -> xr.Dataset:
    """The Dataset of a run from the states of all its shards, the same as that of one undivided run.

    Raises `UserError` if a shard is missing, unfinished or of another run.
    """
    pictures = image_source.pictures(images)
    dataset = join(states, lambda shares, _: finish(shares, model.name, pictures))
    return describe_model(dataset, model, image_size, pictures)


def describe_model(
    dataset: xr.Dataset, model: Backbone, image_size: int | None, pictures: Sequence[Picture]
) -> xr.Dataset:
    """Add where the numbers of one model come from: coordinates along `model` and `image`, attributes for the whole."""
    sources = {picture.name: picture.source for picture in pictures}
    dataset = with_model(dataset, model, image_size)
    dataset = dataset.assign_coords(source=("image", [sources[name] for name in dataset.image.values.tolist()]))
    sha256 = dataset.attrs.get("image_list_sha256") or digest_now(pictures)  # a run knows what it has read
    used = {"images": dataset.sizes["image"], "image_list_sha256": sha256}
    dataset.attrs = {**dataset.attrs, **used, **results.provenance()}
    return dataset


def with_model(dataset: xr.Dataset, model: Backbone, image_size: int | None) -> xr.Dataset:
    """Add coordinates along `model`, and sort the layers."""
    rows, columns = model.grid(image_size)
    about = results.about_model(model) | {
        "image_size": model.image_size if image_size is None else image_size,
        "rows": rows,
        "columns": columns,
    }
    dataset = dataset.assign_coords({name: ("model", [value]) for name, value in about.items()})
    if "layer" in dataset.dims:
        dataset = dataset.sortby("layer")  # whatever order the layers were asked for in, the last is the last
        dataset.layer.attrs = {"long_name": "layer", "units": "1"}
    return dataset


def named(statistics: Sequence[str] | dict[str, Statistic]) -> dict[str, Statistic]:
    """Statistics with their names; `UserError` for an unknown one."""
    if isinstance(statistics, dict):
        return statistics
    for name in statistics:
        if name not in STATISTICS:
            raise UserError(f"unknown statistic {name!r}. Closest: {closest(name, list(STATISTICS))}.")
    return {name: STATISTICS[name] for name in statistics}
