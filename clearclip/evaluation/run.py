"""Data set × recipes → intersection over union of every class, all recipes in one pass over the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import xarray as xr
from PIL import Image

from clearclip.datasets import LabelledPictures, as_dataset
from clearclip.errors import UserError
from clearclip.evaluation.measurement import Evaluation
from clearclip.evaluation.protocol import CLEARCLIP, Level, named
from clearclip.methods.recipes import Recipe, recipes
from clearclip.methods.windows import Windows
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.pictures import BadImage
from clearclip.runs.stream import stream
from clearclip.segmentation.floss import choose_templates, with_experts
from clearclip.segmentation.segmenter import Segmenter
from clearclip.segmentation.text_embeddings import text_embeddings


def evaluate(
    model: ModelLike,
    dataset: Any,
    recipe: str | Recipe | Iterable[str | Recipe] = ("clip", "maskclip", "sclip", "clearclip"),
    *,
    protocol: str = CLEARCLIP,
    threshold: float | None = None,
    windows: Windows | None = None,
    prompts: str | Sequence[str] = "imagenet",
    cache: Path | None = None,
    proxy: ModelLike | None = None,
    norms: bool = False,
    floss: int = 0,
    per_image: bool = False,
    batch_size: int = 8,
    limit: int | None = None,
    strict: bool = False,
    unfinished: Path | None = None,
    progress: bool = True,
    text: Any = None,
) -> xr.Dataset:
    """Segment a data set with every recipe in one pass, and compare with its labels.

    Args:
        model: a `Backbone` with a text tower, a live module, or a name.
        dataset: what `clearclip.datasets.load` gives, a name, a folder, or what else `clearclip.datasets.as_dataset` takes.
        recipe: one or several methods, by name or as a `Recipe`.
        protocol: sizes, windows, thresholds and scales: clearclip, sclip, proxyclip or trident.
        threshold: the score below which a pixel becomes class 0; None takes the protocol's for this data set and recipe.
        windows: None takes the protocol's.
        prompts: as in `Segmenter`.
        cache: as in `Segmenter`.
        proxy: as in `Segmenter`.
        norms: also measure the mean norms of X_res and X_attn (paper Fig. 2).
        floss: choose the templates of each class on the first so many pictures, see `clearclip.segmentation.floss`; 0 for not.
        per_image: also keep intersection and union of every picture, which confidence intervals are made from.
        batch_size: windows in one forward pass.
        limit: only the first so many pictures.
        strict: raise on the first picture or label that cannot be used, instead of naming, counting and skipping it.
        unfinished: a file that holds the run while it grows; if it is there already, the run continues from it.
        progress: show a progress bar with the running mIoU.
        text: as in `Segmenter`; text embeddings in place of prompts.

    One confusion matrix per recipe over the whole split, so memory does not depend on the number of pictures. An interrupted
    or shared run (torchrun: every process takes a share and returns the whole result) ends with the same matrices.

    Returns: a Dataset (model, dataset, recipe, class) with iou, intersection, union, and miou, pixel_accuracy (percent),
    threshold, scale, images, confusion (class, predicted) in pixels, and image_intersection, image_union (image, …) if asked for.
    Raises: `UserError` for recipes the model cannot serve, no usable picture, or a threshold without background class.

    >>> import clearclip
    >>> from clearclip.datasets import load
    >>> result = evaluate(clearclip.load("clip_tiny"), load("scenes", count=2), ["clip", "clearclip"], progress=False)
    >>> dict(result.iou.sizes)
    {'model': 1, 'dataset': 1, 'recipe': 2, 'class': 26}
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: at least one picture is needed.")
    if floss < 0:
        raise UserError(f"floss {floss}: templates are chosen on the first so many pictures, or on none.")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"threshold {threshold}: a score between 0 and 1.")
    model, dataset = as_backbone(model), as_dataset(dataset)
    methods = recipes([recipe] if isinstance(recipe, (str, Recipe)) else recipe)
    rules = named(protocol)
    levels = [
        rules.level(dataset.name, method) if threshold is None else Level(threshold, rules.scale) for method in methods
    ]
    if any(level.threshold for level in levels) and dataset.classes[0] != "background":
        raise UserError(f"a threshold turns pixels into background, and {dataset.name} has no class background.")
    given = None if text is None else text_embeddings(text)
    segmenter = Segmenter(
        model,
        dataset.classes,
        methods,
        windows=windows or rules.windows(dataset.name, model),
        prompts=prompts,
        cache=cache,
        proxy=proxy,
        batch_size=batch_size,
        norms=norms,
        text=given,
    )
    if floss:
        segmenter = with_experts(segmenter, choose_templates(segmenter, first_pictures(dataset, floss)))
    texts = {"prompts": prompts} if given is None else given.provenance()
    return stream(
        Evaluation(
            segmenter, methods, rules.departed(windows, threshold), levels, dataset, limit, texts, floss, per_image
        ),
        unfinished=unfinished,
        strict=strict,
        progress=progress,
    )


def first_pictures(dataset: LabelledPictures, count: int) -> list[Image.Image]:
    """Those of the first pictures of a data set that can be read."""
    pictures = []
    for i in range(min(count, len(dataset))):
        with suppress(BadImage):
            pictures.append(dataset[i].image)
    return pictures
