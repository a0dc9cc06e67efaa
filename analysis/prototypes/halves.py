"""The two measurements of a prototype run: one half of the pictures gives the prototypes, the other is segmented by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from analysis.prototypes.nearest import (
    SIMILARITIES,
    Moments,
    Prototypes,
    class_shares,
    moments,
    nearest,
    similarities,
)
from analysis.prototypes.pictures import prepared
from analysis.prototypes.sites import Sites
from clearclip.datasets import LabelledPictures, Sample
from clearclip.datasets.entries import entries, list_digest
from clearclip.errors import UserError
from clearclip.evaluation.scores import iou_scores
from clearclip.methods.windows import Windows
from clearclip.models.backbone import Backbone
from clearclip.models.finite import require_finite
from clearclip.models.memory import refuse_too_large
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.records import contents_of
from clearclip.runs.stream import Measurement

T = TypeVar("T")


class Task:
    """What both halves share: a model, where its patches are read, a data set, and sizes."""

    def __init__(
        self,
        sites: Sites,
        dataset: LabelledPictures,
        short_side: int | None,
        batch_size: int,
        limit: int | None,
    ) -> None:
        self.sites, self.model, self.dataset = sites, sites.model, dataset
        self.batch_size, self.limit, self.windows = batch_size, limit, _sizes(sites.model, short_side)
        self.entries = entries(dataset, limit)
        if len(self.entries) < 2:
            raise UserError(
                f"{dataset.name}, {len(self.entries)} pictures: at least two are needed, one for each half."
            )
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: at least 1.")
        refuse_too_large(sites.model, self.windows.short_side)


class Half(Measurement[Sample, T]):
    """One half of the pictures of a task: those with indices `first`, `first` + 2, `first` + 4, …"""

    def __init__(self, task: Task, first: int, what: str, source: str) -> None:
        self.task, self.sites, self.model, self.classes = task, task.sites, task.model, len(task.dataset.classes)
        self.title = f"{task.model.name} {task.dataset.name} {what}"
        self.source = f"the {source} half of {task.dataset.name}"
        self.entries, self.batch_size = task.entries, task.batch_size
        self.indices = range(first, len(self.entries), 2)

    def key(self) -> dict[str, Any]:
        """Model, data set, sites and sizes."""
        return {
            **self.model.identity,
            "data set": list_digest(self.task.dataset),
            "limit": self.task.limit,
            "layers": self.sites.layers,
            "sites": self.sites.dim,
            "short side": self.task.windows.short_side,
            "batch size": self.batch_size,
        }

    def read(self, index: int) -> Sample:
        """One picture with its labels."""
        return self.entries[index].read()

    def require_finite(self, finite: Tensor, samples: Sequence[Sample]) -> None:
        """Refuse a batch of pictures of which one of the sites, (layers · places,), is not finite."""
        names = ", ".join(sample.name for sample in samples)
        require_finite(finite[None], [names], self.sites.titles, self.model)


class Sums(NamedTuple):
    """Sums over the labelled patches of the first half."""

    weights: ExactSum  # (C,), labelled patches of every class
    sums: ExactSum  # (layers, places, C, D)
    squares: ExactSum  # (layers, places, D)


class Learning(Half[Sums]):
    """The first half: sums over the patches of every class, which give the prototypes."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, 0, "prototypes", "first")
        sites = ("layer", self.sites.dim)
        self.dims = {"weights": ("class",), "sums": (*sites, "class", "channel"), "squares": (*sites, "channel")}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Every map is reduced to its moments, weighted by the shares of the pictures that are seen."""
        shares = torch.empty(0)
        with self.sites.probed(lambda _, patches: moments(patches, shares)) as forward:

            def learn(images: Tensor, of_classes: Tensor) -> list[Moments]:
                nonlocal shares
                shares = of_classes
                return forward(images)

            self._learn: Callable[[Tensor, Tensor], list[Moments]] = learn
            yield

    def start(self) -> Sums:
        """No patches."""
        shape, width = self.sites.shape, self.sites.width
        return Sums(
            ExactSum.zeros((self.classes,)),
            ExactSum.zeros((*shape, self.classes, width)),
            ExactSum.zeros((*shape, width)),
        )

    def update(self, total: Sums, pictures: Sequence[Sample]) -> Sums:
        """Add the patches of a batch."""
        weights, sums, squares = (np.zeros(part.parts.shape[1:]) for part in total)
        for images, labels in prepared(self.model, self.task.windows, pictures):
            grid = self.model.grid((images.shape[-2], images.shape[-1]))
            shares = torch.stack([class_shares(label, grid, self.classes) for label in labels])  # (B, C, N)
            by_map = self._learn(images, shares)
            weights += shares.cpu().double().sum((0, 2)).numpy()
            sums += torch.stack([moment.sums for moment in by_map]).cpu().numpy().reshape(sums.shape)
            squares += torch.stack([moment.squares for moment in by_map]).cpu().numpy().reshape(squares.shape)
        self.require_finite(torch.from_numpy(squares).isfinite().all(-1).flatten(), pictures)
        return Sums(total.weights.plus(weights), total.sums.plus(sums), total.squares.plus(squares))

    def state(self, total: Sums) -> xr.Dataset:
        """The parts of all sums."""
        return xr.Dataset({name: (("part", *dims), getattr(total, name).parts) for name, dims in self.dims.items()})

    def restore(self, state: xr.Dataset) -> Sums:
        """What `state` kept."""
        return Sums(*(ExactSum(state[name].values) for name in self.dims))

    def finish(self, states: Sequence[xr.Dataset], images: int) -> xr.Dataset:
        """The sums over all pictures: `weights` (class), `sums` (layer, place, class, channel), `squares`; and `images`."""
        totals = {
            name: ExactSum.of_parts((state[name].values for state in states), states[0][name].shape[1:]).value()
            for name in self.dims
        }
        sums = {name: (self.dims[name], total) for name, total in totals.items()}
        return xr.Dataset(sums | {"images": images} | contents_by_picture(states))


class Comparing(Half[np.ndarray]):
    """The second half: confusion matrices (layers, places, similarities, C, C) int64; rows are the true classes."""

    def __init__(self, task: Task, known: Prototypes) -> None:
        super().__init__(task, 1, "labels", "second")
        self.known = known

    @contextmanager
    def running(self) -> Iterator[None]:
        """Every map is segmented by its prototypes and counted against the labels of the pictures that are seen."""
        device, known = self.model.device, self.known
        owner = torch.from_numpy(known.seen).to(device)
        mean, scale, vectors = (
            torch.from_numpy(part).flatten(0, 1).to(device) for part in (known.mean, known.scale, known.vectors)
        )
        labels, grid = torch.empty(0), (0, 0)

        def count(site: int, patches: Tensor) -> tuple[Tensor, Tensor]:
            """Confusion matrices of one site (similarities, C, C), and whether its maps are finite."""
            cosines = similarities(patches, mean[site], scale[site], vectors[site])
            predictions = [
                nearest(maps.unflatten(-1, grid), (labels.shape[1], labels.shape[2]), owner)
                for maps in cosines.unbind(1)
            ]
            ignored = self.task.dataset.ignore_index
            matrices = [
                multiclass_confusion_matrix(predicted, labels, self.classes, ignore_index=ignored, validate_args=False)
                for predicted in predictions
            ]
            return torch.stack(matrices), patches.isfinite().all()

        with self.sites.probed(count) as forward:

            def compare(images: Tensor, truths: Tensor) -> list[tuple[Tensor, Tensor]]:
                nonlocal labels, grid
                labels, grid = truths, self.model.grid((images.shape[-2], images.shape[-1]))
                return forward(images)

            self._compare: Callable[[Tensor, Tensor], list[tuple[Tensor, Tensor]]] = compare
            yield

    def start(self) -> np.ndarray:
        """Nothing counted."""
        return np.zeros((*self.sites.shape, len(SIMILARITIES), self.classes, self.classes), np.int64)

    def update(self, total: np.ndarray, pictures: Sequence[Sample]) -> np.ndarray:
        """Segment a batch and count."""
        confusion = total.copy()
        for images, labels in prepared(self.model, self.task.windows, pictures):
            by_map = self._compare(images, labels)
            self.require_finite(torch.stack([finite for _, finite in by_map]), pictures)
            confusion += torch.stack([matrices for matrices, _ in by_map]).cpu().numpy().reshape(confusion.shape)
        return confusion

    def standing(self, total: np.ndarray) -> str:
        """The best running mIoU."""
        miou = iou_scores(total)["miou"]
        if np.isnan(miou).all():
            return ""
        site, similarity = divmod(int(np.nanargmax(miou)), len(SIMILARITIES))
        return f"best {self.sites.titles[site]}, {SIMILARITIES[similarity]}: {np.nanmax(miou):.1f}"

    def state(self, total: np.ndarray) -> xr.Dataset:
        """The confusion matrices."""
        return xr.Dataset({"confusion": (("layer", self.sites.dim, "similarity", "class", "predicted"), total)})

    def restore(self, state: xr.Dataset) -> np.ndarray:
        """What `state` kept."""
        return state.confusion.values

    def finish(self, states: Sequence[xr.Dataset], images: int) -> xr.Dataset:
        """`confusion` over all pictures, and `images`."""
        confusion = np.sum([state.confusion.values for state in states], 0)
        counted = {"confusion": (states[0].confusion.dims, confusion), "images": images}
        return xr.Dataset(counted | contents_by_picture(states))


def contents_by_picture(states: Sequence[xr.Dataset]) -> dict[str, Any]:
    """The variable `content` along `picture`: what every picture of a half contained, and its index."""
    contents = contents_of(states)
    return {"content": ("picture", list(contents.values())), "picture": list(contents)}


def _sizes(model: Backbone, short_side: int | None) -> Windows:
    """The protocol's sizes, or those in proportion to another short side."""
    usual = Windows.of(model)
    if short_side is None:
        return usual
    if short_side < model.patch_size:
        raise UserError(f"short side {short_side}: {model.name} needs at least one patch of {model.patch_size} pixels.")
    return replace(usual, short_side=short_side, long_side=usual.long_side * short_side // usual.short_side)
