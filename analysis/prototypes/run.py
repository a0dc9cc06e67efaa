"""Half of a data set → class prototypes; the other half → its segmentation by them, every map or head in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from analysis.prototypes.halves import Comparing, Learning, Task
from analysis.prototypes.nearest import SIMILARITIES, prototypes
from analysis.prototypes.sites import Features, Heads
from analysis.prototypes.table import merge
from clearclip.datasets import LabelledPictures, as_dataset
from clearclip.datasets.entries import meaning
from clearclip.entries import digest
from clearclip.errors import UserError
from clearclip.evaluation import scores
from clearclip.models.backbone import Backbone
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.runs import results
from clearclip.runs.pairs import measure_pairs
from clearclip.runs.stream import stream


def measure(
    model: ModelLike,
    dataset: Any,
    *,
    layers: Sequence[int] | None = None,
    heads: bool = False,
    short_side: int | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    strict: bool = False,
    unfinished: Path | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Segment one half of a data set by class prototypes from the other, with X_res, X_attn and X_sum of every layer.

    Pictures 0, 2, 4, … give the prototypes, pictures 1, 3, 5, … are segmented. No text tower is needed.

    Args:
        model: any `Backbone`, a live module, or a name.
        dataset: what `clearclip.datasets.load` gives, a name, a folder, or what else `clearclip.datasets.as_dataset` takes.
        layers: which layers, counted 1 … depth; None takes all.
        heads: read A·v of every head, before the output projection, in place of the three feature maps.
        short_side: pixels to which pictures are resized, their shape kept up to whole patches; None is the protocol's 448
            (in proportion for models of small pictures).
        batch_size: pictures in one forward pass, if they are equal in size.
        limit: only the first so many pictures, for both halves together.
        strict: raise on the first picture or label that cannot be used, instead of naming, counting and skipping it.
        unfinished: a file that holds the first half of the run while it grows, with one for the second half beside it; if
            they are there already, the run continues from them.
        progress: show a progress bar with the best running mIoU.

    Memory does not depend on the number of pictures or tokens. An interrupted or shared run (torchrun) ends with the same bits.

    Returns: a Dataset (model, dataset, layer, feature or head, similarity, class) with iou, miou, pixel_accuracy (percent),
    intersection, union (pixels), images, prototype_images, prototype_patches.
    Raises: `UserError` for a data set of less than two pictures, or a half without a single usable one.

    >>> import clearclip
    >>> from clearclip.datasets import load
    >>> result = measure(clearclip.load("dino_tiny"), load("scenes", count=2), layers=[6], progress=False)
    >>> dict(result.miou.sizes)
    {'model': 1, 'dataset': 1, 'layer': 1, 'feature': 3, 'similarity': 2}
    """
    dataset, backbone = as_dataset(dataset), as_backbone(model)
    sites = (Heads if heads else Features)(backbone, backbone.layers(layers))
    task = Task(sites, dataset, short_side, batch_size, limit)
    second = None if unfinished is None else unfinished.with_name(f"{unfinished.stem}.second{unfinished.suffix}")
    learned = stream(Learning(task), unfinished=unfinished, strict=strict, progress=progress)
    if not learned.weights.any():
        raise UserError(f"no pixel of the first half of {dataset.name} has a class, so there are no prototypes.")
    known = prototypes(learned.weights.values, learned.sums.values, learned.squares.values)
    compared = stream(Comparing(task, known), unfinished=second, strict=strict, progress=progress)
    return _result(task, learned, compared)


def measure_models(
    loaders: Sequence[Callable[[], Backbone]],
    datasets: Sequence[LabelledPictures],
    output: Path,
    **how: Any,
) -> xr.Dataset:
    """Measure several models on several data sets; interrupted, the same call continues.

    Args:
        loaders: one function per model, as `clearclip.models.load` makes them, so that one model is in memory at a time.
        datasets: what `clearclip.datasets.load` gives.
        output: where the Dataset will be written. Unfinished runs are kept beside it until `unfinished_files.write_result`.
        how: further arguments of `measure`.

    Returns: what `analysis.prototypes.table.merge` makes of the results.
    Raises: `UserError` as `measure` does; under torchrun `Finished` in all processes but the first.
    """

    def of_pair(model: Backbone, dataset: LabelledPictures, unfinished: Path) -> xr.Dataset:
        return measure(model, dataset, unfinished=unfinished, **how)

    return measure_pairs(loaders, datasets, output, of_pair, merge)


ATTRS = scores.ATTRS | {
    "images": {"long_name": "pictures that were segmented", "units": "1"},
    "prototype_images": {"long_name": "pictures that gave the prototypes", "units": "1"},
    "prototype_patches": {"long_name": "labelled patches of each class in the first half", "units": "patches"},
}


def _result(task: Task, learned: xr.Dataset, compared: xr.Dataset) -> xr.Dataset:
    """The Dataset of both halves."""
    model, dataset, sites, cell = task.model, task.dataset, task.sites, ("model", "dataset")
    contents = xr.concat([learned.content, compared.content], "picture").sortby("picture").to_series().to_dict()
    values = scores.iou_scores(compared.confusion.values) | {
        "images": compared.images.values,
        "prototype_images": learned.images.values,
        "prototype_patches": learned.weights.values,
    }
    dims = {0: cell, 1: (*cell, "class"), 3: (*cell, "layer", sites.dim, "similarity")}
    dims[4] = (*dims[3], "class")
    variables = {name: (dims[value.ndim], value[None, None], ATTRS[name]) for name, value in values.items()}
    about: dict[str, Any] = results.about_model(model) | {"short_side": task.windows.short_side}
    coords = {name: ("model", [value]) for name, value in about.items()} | {
        "model": [model.name],
        "dataset": [dataset.name],
        "layer": ("layer", list(sites.layers), {"long_name": "layer", "units": "1"}),
        sites.dim: sites.labels,
        "similarity": list(SIMILARITIES),
        "class": dataset.classes,
        "split": ("dataset", [getattr(dataset, "split", "all")]),
        "data_sha256": ("dataset", [digest(task.entries, contents, meaning(dataset))]),
    }
    halves = "prototypes from pictures 0, 2, 4, …, scores of 1, 3, 5, …"
    attrs = {"skipped": results.skipped([learned, compared]), "halves": halves}
    return xr.Dataset(variables, coords, attrs | results.provenance()).sortby("layer")
