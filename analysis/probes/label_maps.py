"""What recipes and feature maps make of the same few pictures, as label maps (paper Figs. 1, 3, 7, 10 and 11)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from analysis.probes.samples import as_samples
from clearclip.datasets.base import Sample
from clearclip.evaluation import table
from clearclip.methods.recipes import Recipe, feature_recipe, recipes
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.runs import results
from clearclip.segmentation.segmenter import Segmenter
from clearclip.segmentation.text_embeddings import text_embeddings
from clearclip.words import distinct

FEATURES = ("X_sum", "X_res", "X_attn")  # in the order of the paper's Fig. 1
RECIPES = ("clip", "maskclip", "sclip", "clearclip", *FEATURES)
LONG_SIDE = 512  # pixels that are kept of a picture's long side


def label_maps(
    model: ModelLike,
    samples: Any,
    classes: Sequence[str] | Sequence[Sequence[str]] | str,
    recipes: Sequence[str | Recipe] = RECIPES,
    batch_size: int = 8,
    cache: Path | None = None,
    prompts: str | Sequence[str] = "imagenet",
    text: Any = None,
) -> xr.Dataset:
    """What every recipe makes of a few pictures, from one pass each.

    Args:
        samples: a data set, `Sample`s (a label map of size 0 means that there are no true labels), or any kind of pictures.
        classes: as for `clearclip.Segmenter`.
        recipes: names, X_sum, X_res, X_attn or `Recipe`s.
        batch_size: windows in one forward pass.
        cache: where text embeddings are kept.
        prompts: templates, as for `clearclip.Segmenter`.
        text: text embeddings in place of prompts, as for `clearclip.Segmenter`.

    Returns: `picture` (image, row, column, rgb) uint8, `labels` (model, recipe, image, row, column), and, if there are true
    labels, `truth` (image, row, column) and `pixel_accuracy` (model, recipe, image) in %, counted on the whole picture.
    Labels are indices of `class`. The largest value of their type means not labelled, or beyond the picture, whose `height`
    and `width` lie along `image`.
    """
    model, samples = as_backbone(model), as_samples(samples)
    methods = recipes_of(recipes)
    given = None if text is None else text_embeddings(text)
    segmenter = Segmenter(model, classes, methods, batch_size=batch_size, cache=cache, prompts=prompts, text=given)
    return maps_of(segmenter, samples).assign_attrs({} if given is None else given.provenance())


def maps_of(segmenter: Segmenter, samples: Sequence[Sample]) -> xr.Dataset:
    """What every recipe of a segmenter makes of a few pictures, as `label_maps` gives it."""
    model, methods = segmenter.model, segmenter.encoder.recipes
    names = [str(name) for name in segmenter.queries.classes]
    kind: Any = np.uint8 if len(names) < 255 else np.uint16
    none = int(np.iinfo(kind).max)
    kept = [segmented(segmenter, sample, kind) for sample in samples]
    pictures, maps, truths, accuracy = zip(*kept, strict=True)
    labels = np.stack([_padded([of_picture[i] for of_picture in maps], none) for i in range(len(methods))])
    picture_attrs = {"long_name": "picture", "units": "grey levels"}
    variables: dict[str, Any] = {
        "picture": (("image", "row", "column", "rgb"), _padded(pictures, 255), picture_attrs),
        "labels": (
            ("model", "recipe", "image", "row", "column"),
            labels[None],
            {"long_name": "label map", "units": "class index", "not_labelled": none},
        ),
    }
    if all(truth.size for truth in truths):
        variables["truth"] = (
            ("image", "row", "column"),
            _padded(truths, none),
            {"long_name": "true labels", "units": "class index", "not_labelled": none},
        )
        variables["pixel_accuracy"] = (
            ("model", "recipe", "image"),
            np.array(accuracy).T[None],
            {"long_name": "pixel accuracy", "units": "%"},
        )
    coords = {
        "model": [model.name],
        **Recipe.to_coords(methods),
        "image": distinct(sample.name for sample in samples),
        "class": names,
        "rgb": ["red", "green", "blue"],
        "height": ("image", [picture.shape[0] for picture in pictures], {"units": "pixels"}),
        "width": ("image", [picture.shape[1] for picture in pictures], {"units": "pixels"}),
        **{name: ("model", [value]) for name, value in results.about_model(model).items()},
    }
    return xr.Dataset(variables, coords, {"images": len(samples), **results.provenance()})


def recipes_of(names: Sequence[str | Recipe]) -> list[Recipe]:
    """Recipes by name, where X_sum, X_res and X_attn stand for the feature maps of the last block.

    >>> [recipe.residual for recipe in recipes_of(["X_attn", "clip"])]
    [False, True]
    """
    return recipes([feature_recipe(str(name)) if name in FEATURES else name for name in names])


def segmented(
    segmenter: Segmenter, sample: Sample, kind: Any
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, list[float]]:
    """Picture, label maps and true labels of one sample at the size that is kept, and each recipe's pixel accuracy.

    Args:
        kind: the integer type of labels; its largest value means not labelled.
    """
    truth_given = sample.label if np.size(sample.label) else None
    by_recipe = segmenter.each(sample.image, [sample.name], truth=truth_given)[0].values()
    scale = min(1.0, LONG_SIDE / max(sample.image.size))
    size = max(1, round(sample.image.width * scale)), max(1, round(sample.image.height * scale))
    label = np.asarray(sample.label)
    known = (label >= 0) & (label < len(segmenter.queries.classes))
    truth = np.where(known, label, np.iinfo(kind).max).astype(kind)
    accuracy = [result.pixel_accuracy(label) for result in by_recipe if label.size]
    picture = np.asarray(sample.image if scale == 1 else sample.image.resize(size, Image.Resampling.LANCZOS))
    maps = [_nearest(result.labels.astype(kind), size) for result in by_recipe]
    return picture, maps, _nearest(truth, size) if label.size else truth, accuracy


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels (H, W) at another size (width, height), each the nearest pixel's."""
    columns, rows = (
        ((np.arange(n) + 0.5) * of / n).astype(int) for n, of in zip(size, labels.shape[::-1], strict=True)
    )
    return labels[rows[:, None], columns]


def _padded(arrays: Sequence[np.ndarray], fill: int) -> np.ndarray:
    """Arrays (H, W, …) of several sizes in one, filled up at the bottom and on the right."""
    height, width = (max(a.shape[axis] for a in arrays) for axis in (0, 1))
    spare = [((0, height - a.shape[0]), (0, width - a.shape[1]), *[(0, 0)] * (a.ndim - 2)) for a in arrays]
    return np.stack([np.pad(a, pad, constant_values=fill) for a, pad in zip(arrays, spare, strict=True)])


def read(path: Path) -> xr.Dataset:
    """Read a Dataset of label maps.

    Raises: `UserError` for another file.
    """
    return table.read(path, "label maps")


def merge(parts: Sequence[xr.Dataset], source: str) -> xr.Dataset:
    """One Dataset of several models; `source` names the data set, "" for photographs."""
    whole = xr.concat(
        parts, "model", data_vars="minimal", coords="minimal", compat="override", combine_attrs="override"
    )
    return whole.assign_attrs(dataset=source)


def report(dataset: xr.Dataset) -> str:
    """Which models, and the pixel accuracy of every recipe on every picture where there are true labels."""
    lines = [f"label maps of {', '.join(dataset.model.values)}, {dataset.sizes['image']} pictures"]
    if "pixel_accuracy" in dataset:
        stacked = dataset.pixel_accuracy.reset_coords(drop=True).transpose("model", "image", "recipe")
        table = stacked.stack(line=("model", "image")).to_pandas().T
        lines += ["pixel accuracy [%]", table.to_string(float_format=lambda value: f"{value:.1f}", na_rep="")]
    return "\n".join(lines)


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, recipe, picture and class: the share of the picture that it covers, and the pixel accuracy in %."""
    frames = []
    for model, recipe, image in product(dataset.model.values, dataset.recipe.values, dataset.image.values):
        cell = dataset.sel(model=model, recipe=recipe, image=image)
        labels = cell.labels.values[: int(cell.height), : int(cell.width)]
        shares = np.bincount(labels.ravel(), minlength=dataset.sizes["class"])[: dataset.sizes["class"]] / labels.size
        rows = pd.DataFrame({"class": dataset["class"].values, "share": shares})
        rows = rows.assign(model=model, recipe=recipe, image=image, random_weights=bool(cell.random_weights))
        if "pixel_accuracy" in cell:
            rows["pixel_accuracy"] = float(cell.pixel_accuracy)
        frames.append(rows[rows.share > 0])
    first = ["model", "recipe", "image", "class"]
    rows = pd.concat(frames, ignore_index=True)
    return rows[[*first, *(column for column in rows if column not in first)]]
