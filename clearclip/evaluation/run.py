"""Data set × recipes → intersection over union of every class, all recipes in one pass over the pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from PIL import Image
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from clearclip.datasets import LabelledPictures, Sample, as_dataset
from clearclip.datasets.entries import entries, list_digest, meaning
from clearclip.entries import digest
from clearclip.errors import UserError
from clearclip.evaluation import per_image, scores
from clearclip.evaluation.per_image import Areas
from clearclip.evaluation.protocol import CLEARCLIP, Level, named
from clearclip.methods.recipes import Recipe, recipes
from clearclip.methods.windows import PatchLogits, Windows
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.pictures import BadImage
from clearclip.runs import results
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.records import contents_of
from clearclip.runs.stream import Measurement, stream
from clearclip.segmentation.floss import choose_templates, with_experts
from clearclip.segmentation.labelling import class_labels
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
        _Evaluation(
            segmenter, methods, rules.departed(windows, threshold), levels, dataset, limit, texts, floss, per_image
        ),
        unfinished=unfinished,
        strict=strict,
        progress=progress,
    )


class _Numbered(NamedTuple):
    """A picture with its place in the data set."""

    place: int
    sample: Sample


class _Total(NamedTuple):
    """What has been counted so far."""

    confusion: Tensor  # (recipes, classes, classes) int64, on the device; rows are the true classes
    norms: ExactSum  # (recipes, 2), of X_res and X_attn, summed over pictures
    each: tuple[Areas, ...] = ()  # empty unless asked for


class _Evaluation(Measurement[_Numbered, _Total]):
    """Confusion matrices, and norms if wanted, of one model and its recipes over one data set."""

    def __init__(
        self,
        segmenter: Segmenter,
        recipes: list[Recipe],
        protocol: str,
        levels: list[Level],
        dataset: LabelledPictures,
        limit: int | None,
        texts: Mapping[str, str | Sequence[str]],
        floss: int,
        per_image: bool,
    ) -> None:
        self.segmenter, self.recipes, self.protocol, self.levels = segmenter, recipes, protocol, levels
        self.floss, self.per_image = floss, per_image
        self.dataset, self.limit, self.texts = dataset, limit, texts
        self.title, self.source = f"{segmenter.model.name} {dataset.name}", dataset.name
        self.entries = entries(dataset, limit)
        self.indices = range(len(self.entries))
        self.batch_size = max(1, segmenter.batch_size // 2)

    def key(self) -> dict[str, Any]:
        """Model, data set, recipes, and how windows and texts are made."""
        model, proxy = self.segmenter.model, self.segmenter.encoder.proxy
        return {
            "model": model.architecture,
            "weights": model.weights.sha256,
            "precision": model.precision,
            "positions": model.resizing,
            "interventions": model.interventions,
            "proxy": proxy and [proxy.architecture, proxy.weights.sha256, proxy.resizing],
            "data set": list_digest(self.dataset),
            "limit": self.limit,
            "recipes": [recipe.facts for recipe in self.recipes],
            "protocol": self.protocol,
            "thresholds": self.levels,
            "windows": asdict(self.segmenter.windows),
            **self.texts,
            "floss": self.floss,
            "batch size": self.segmenter.batch_size,
            "norms": self.segmenter.norms,
            "per image": self.per_image,
        }

    def read(self, index: int) -> _Numbered:
        """One picture with its labels."""
        return _Numbered(index, self.entries[index].read())

    def start(self) -> _Total:
        """Nothing counted."""
        shape = (len(self.recipes), len(self.dataset.classes), len(self.dataset.classes))
        confusion = torch.zeros(shape, dtype=torch.int64, device=self.segmenter.model.device)
        return _Total(confusion, ExactSum.zeros((len(self.recipes), 2)))

    def update(self, total: _Total, pictures: Sequence[_Numbered]) -> _Total:
        """Segment a batch with every recipe and count."""
        confusion, norms = torch.zeros_like(total.confusion), np.zeros((len(self.recipes), 2))
        owner = self.segmenter.queries.owner
        each = list(total.each)
        samples = [picture.sample for picture in pictures]
        for (place, sample), by_recipe in zip(pictures, self._logits(samples), strict=True):
            truth = torch.from_numpy(sample.label.astype(np.int64)).to(owner.device, non_blocking=True)  # (H, W)
            areas = []
            for i, (logits, level) in enumerate(zip(by_recipe.values(), self.levels, strict=True)):
                matrix = multiclass_confusion_matrix(
                    class_labels(logits, (truth.shape[0], truth.shape[1]), owner, *level),
                    truth,
                    len(self.dataset.classes),
                    ignore_index=self.dataset.ignore_index,
                    validate_args=False,
                )
                confusion[i] += matrix
                if self.per_image:
                    areas.append(scores.areas(matrix.cpu().numpy()))
                if logits.norms is not None:
                    norms[i] += logits.norms.double().mean(0).cpu().numpy()
            if self.per_image:
                each.append(Areas(place, sample.name, np.stack(areas)))
        summed = total.norms.plus(norms) if self.segmenter.norms else total.norms
        return _Total(total.confusion + confusion, summed, tuple(each))

    def _logits(self, samples: Sequence[Sample]) -> Iterator[dict[str, PatchLogits]]:
        """Of every picture; the true labels go to those recipes only that are told them."""
        images, names = [sample.image for sample in samples], [sample.name for sample in samples]
        return self.segmenter.logits(images, names, truth=[sample.label for sample in samples])

    def standing(self, total: _Total) -> str:
        """The running mIoU, of the best of many recipes."""
        names = [recipe.name for recipe in self.recipes]
        miou = dict(zip(names, scores.iou_scores(total.confusion.cpu().numpy())["miou"], strict=True))
        if len(miou) > 4:
            best = max(miou, key=lambda name: miou[name])
            miou = {f"best of {len(miou)}: {best}": miou[best]}
        return "mIoU " + ", ".join(f"{name} {value:.1f}" for name, value in miou.items())

    def state(self, total: _Total) -> xr.Dataset:
        """Confusion matrices, sums of norms, and what is kept of each picture if that is asked for."""
        sums = xr.Dataset(
            {
                "confusion": (("recipe", "class", "predicted"), total.confusion.cpu().numpy()),
                "norms": (("part", "recipe", "of"), total.norms.parts),
            }
        )
        if not self.per_image:
            return sums
        pictures = per_image.kept(total.each, len(self.recipes), len(self.dataset.classes))
        return sums.merge(pictures).assign_attrs(pictures.attrs)

    def restore(self, state: xr.Dataset) -> _Total:
        """What `state` kept."""
        confusion = torch.from_numpy(state.confusion.values).to(self.segmenter.model.device)
        each = per_image.restored(state) if self.per_image else ()
        return _Total(confusion, ExactSum(state.norms.values), each)

    def finish(self, states: Sequence[xr.Dataset], images: int) -> xr.Dataset:
        """The Dataset of a run from the states of all its processes."""
        confusion = np.sum([state.confusion.values for state in states], 0)
        data_sha256 = digest(self.entries, contents_of(states), meaning(self.dataset))
        about: dict[str, Any] = {
            name: ("model", [value]) for name, value in results.about_model(self.segmenter.model).items()
        }
        dims = {"miou": ("recipe",), "pixel_accuracy": ("recipe",), "confusion": ("recipe", "class", "predicted")}
        values = scores.iou_scores(confusion) | {"confusion": confusion}
        variables = {
            name: (("model", "dataset", *dims.get(name, ("recipe", "class"))), value[None, None], ATTRS[name])
            for name, value in values.items()
        }
        variables["images"] = (("model", "dataset"), np.array([[images]]), ATTRS["images"])
        variables["threshold"] = (("dataset", "recipe"), np.array([self.levels])[..., 0], ATTRS["threshold"])
        variables["scale"] = (("dataset", "recipe"), np.array([self.levels])[..., 1], ATTRS["scale"])
        if self.segmenter.norms:
            total = ExactSum.of_parts((state.norms.values for state in states), (len(self.recipes), 2))
            means = total.value() / images
            variables["x_attn_norm"] = (("model", "dataset", "recipe"), means[None, None, :, 1], ATTRS["x_attn_norm"])
            variables["x_res_norm"] = (("model", "dataset", "recipe"), means[None, None, :, 0], ATTRS["x_res_norm"])
        coords: dict[str, Any] = {}
        if self.per_image:
            pictures, coords = per_image.variables(states)
            variables |= pictures
        coords |= about | {
            "model": [self.segmenter.model.name],
            "dataset": [self.dataset.name],
            **Recipe.to_coords(self.recipes),
            "class": self.dataset.classes,
            "predicted": self.dataset.classes,
            "split": ("dataset", [getattr(self.dataset, "split", "all")]),
            "data_sha256": ("dataset", [data_sha256]),
            "protocol": ("dataset", [self.protocol]),
            "windows": ("dataset", [str(self.segmenter.windows)]),
        }
        texts = {key: text if isinstance(text, str) else json.dumps(list(text)) for key, text in self.texts.items()}
        if self.floss:
            coords["templates"] = (("model", "dataset"), [[json.dumps(self.segmenter.templates)]])
        return xr.Dataset(variables, coords, {**texts, "floss": self.floss})


def first_pictures(dataset: LabelledPictures, count: int) -> list[Image.Image]:
    """Those of the first pictures of a data set that can be read."""
    pictures = []
    for i in range(min(count, len(dataset))):
        with suppress(BadImage):
            pictures.append(dataset[i].image)
    return pictures


ATTRS = scores.ATTRS | {
    "confusion": {"long_name": "confusion matrix, true × predicted", "units": "pixels"},
    "images": {"long_name": "pictures", "units": "1"},
    "threshold": {"long_name": "background threshold", "units": "1"},
    "scale": {"long_name": "factor of cosines before the softmax", "units": "1"},
    "x_res_norm": {"long_name": "Frobenius norm of X_res", "units": "model units"},
    "x_attn_norm": {"long_name": "Frobenius norm of X_attn", "units": "model units"},
}
