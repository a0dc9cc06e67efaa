"""What each component is worth for finding places: over labelled pictures, its map alone and the map without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.stats import rankdata
from torch import Tensor

from analysis.attribution.components import Component, to_coords
from analysis.attribution.directions import Directions
from analysis.attribution.parts import decompose
from analysis.attribution.readout import Readout
from analysis.prototypes.nearest import class_shares
from analysis.prototypes.pictures import prepared
from clearclip.datasets.base import LabelledPictures, Sample
from clearclip.datasets.entries import entries, list_digest, meaning
from clearclip.entries import digest
from clearclip.evaluation import scores
from clearclip.methods.recipe import Recipe
from clearclip.methods.windows import Windows
from clearclip.models.backbone import Backbone
from clearclip.models.finite import require_finite
from clearclip.runs import results
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.records import contents_of
from clearclip.runs.stream import Measurement

HALF = 0.5  # of a patch belongs to a class whose label the patch has


class Total(NamedTuple):
    """What has been counted so far."""

    confusion: (
        np.ndarray
    )  # (2, K, C, C) int64: of each component's map alone, and of the map without it; rows are the true ones
    whole: np.ndarray  # (C, C) int64, of all components together
    auc: ExactSum  # (2, K, C), summed over the pictures that hold the class
    pictures: np.ndarray  # (C,) int64, how many these are


class Worth(Measurement[Sample, Total]):
    """AUC and confusion matrices of every component of one model's recipe over one data set.

    Args:
        model: any.
        dataset: labelled pictures.
        recipe: without stages around the last block.
        directions: what classes are found by, with their classes.
        indices: which pictures.
        batch_size: pictures in one forward pass, if they are equal in size.
        limit: for messages and the key: only the first so many pictures.
        guide: a second model for recipes that need one.
        how: what directions are made of, for the key and the result.
        learned: the contents of those pictures that the directions are made of, by their places.
    """

    def __init__(
        self,
        model: Backbone,
        dataset: LabelledPictures,
        recipe: Recipe,
        directions: Directions,
        indices: range,
        batch_size: int,
        limit: int | None,
        guide: Backbone | None,
        how: str,
        learned: Mapping[int, str],
    ) -> None:
        self.model, self.dataset, self.recipe, self.directions = model, dataset, recipe, directions
        self.title, self.source = f"{model.name} {dataset.name} components", dataset.name
        self.entries, self.indices, self.batch_size = entries(dataset, limit), indices, batch_size
        self.limit, self.guide, self.how, self.learned = limit, guide, how, learned
        self.windows, self.readout = Windows.of(model), Readout(model, directions.vectors)
        self.components = self._components()

    def _components(self) -> list[Component]:
        side = 4 * self.model.patch_size
        images = torch.zeros(1, 3, side, side, device=self.model.device)
        return decompose(self.readout, images, self.recipe, self.guide).components

    def key(self) -> dict[str, Any]:
        """Model, data set, recipe and directions."""
        model, guide = self.model, self.guide
        return {
            **model.identity,
            "proxy": guide and [guide.architecture, guide.weights.sha256, guide.resizing],
            "data set": list_digest(self.dataset),
            "limit": self.limit,
            "recipe": self.recipe.facts,
            "directions": [self.how, dict(self.learned)],
            "batch size": self.batch_size,
        }

    def read(self, index: int) -> Sample:
        """One picture with its labels."""
        return self.entries[index].read()

    def start(self) -> Total:
        """Nothing counted."""
        K, C = len(self.components), len(self.dataset.classes)
        square = np.zeros((C, C), np.int64)
        return Total(np.zeros((2, K, C, C), np.int64), square, ExactSum.zeros((2, K, C)), np.zeros(C, np.int64))

    def update(self, total: Total, pictures: Sequence[Sample]) -> Total:
        """Take the scores of a batch apart and compare every map with the labels."""
        confusion, whole = total.confusion.copy(), total.whole.copy()
        auc, seen = np.zeros(total.auc.parts.shape[1:]), total.pictures.copy()
        C = len(self.dataset.classes)
        for images, labels in prepared(self.model, self.windows, pictures):
            parts = decompose(self.readout, images, self.recipe, self.guide)
            names = [", ".join(sample.name for sample in pictures)]
            require_finite(
                parts.values.isfinite().all()[None, None], names, ["the components of the scores"], self.model
            )
            for values, cosines, label in zip(parts.values, parts.cosines, labels, strict=True):
                shares = class_shares(label, parts.grid, C)  # (C, N)
                of_patches = torch.where(shares.amax(0) >= HALF, shares.argmax(0), -1)
                known = of_patches >= 0
                truth = of_patches[known]
                alone = of_classes(values, cosines, self.directions.owner)[known]  # (n, K, S)
                both = torch.stack([alone, alone.sum(1, keepdim=True) - alone])  # (2, n, K, S)
                classes = self.directions.owner.unique()
                predicted = classes[both.argmax(-1)].permute(0, 2, 1)  # (2, K, n)
                confusion += _confusion(truth, predicted, C)
                whole += _confusion(truth, classes[alone.sum(1).argmax(-1)], C)
                for i, c in enumerate(classes.tolist()):
                    positive = (truth == c).cpu().numpy()
                    if positive.any() and not positive.all():
                        auc[..., c] += area_under_curve(both[..., i].permute(0, 2, 1).cpu().numpy(), positive)
                        seen[c] += 1
        return Total(confusion, whole, total.auc.plus(auc), seen)

    def state(self, total: Total) -> xr.Dataset:
        """Confusion matrices and sums."""
        return xr.Dataset(
            {
                "confusion": (("of", "component", "class", "predicted"), total.confusion),
                "whole": (("class", "predicted"), total.whole),
                "auc": (("part", "of", "component", "class"), total.auc.parts),
                "pictures": (("class",), total.pictures),
            }
        )

    def restore(self, state: xr.Dataset) -> Total:
        """What `state` kept."""
        return Total(state.confusion.values, state.whole.values, ExactSum(state.auc.values), state.pictures.values)

    def finish(self, states: Sequence[xr.Dataset], images: int) -> xr.Dataset:
        """The Dataset of a run from the states of all its processes."""
        total = self.start()
        pictures = np.sum([state.pictures.values for state in states], 0)
        areas = ExactSum.of_parts((state.auc.values for state in states), total.auc.parts.shape[1:]).value()
        auc = np.divide(areas, pictures, out=np.full_like(areas, np.nan), where=pictures > 0)
        alone, without = scores.iou_scores(np.sum([state.confusion.values for state in states], 0))["miou"]
        miou = scores.iou_scores(np.sum([state.whole.values for state in states], 0))["miou"]
        contents = dict(sorted((dict(self.learned) | contents_of(states)).items()))
        digests = digest(self.entries, contents, meaning(self.dataset))
        dims = ("model", "dataset", "component")
        about = {name: ("model", [value]) for name, value in results.about_model(self.model).items()}
        variables = {
            "auc": ((*dims, "class"), auc[0]),
            "auc_without": ((*dims, "class"), auc[1]),
            "miou": (dims, alone),
            "miou_without": (dims, without),
            "miou_whole": (("model", "dataset"), miou),
            "class_images": (("model", "dataset", "class"), pictures),
            "images": (("model", "dataset"), images),
        }
        return xr.Dataset(
            {name: (dims_, np.asarray(value)[None, None], ATTRS[name]) for name, (dims_, value) in variables.items()},
            {
                **about,
                "model": [self.model.name],
                "dataset": [self.dataset.name],
                "class": self.dataset.classes,
                **to_coords(self.components),
                "recipe": ("model", [self.recipe.name]),
                "directions": ("model", [self.how]),
                "split": ("dataset", [getattr(self.dataset, "split", "all")]),
                "data_sha256": ("dataset", [digests]),
            },
        )


ATTRS = {
    "auc": {"long_name": "AUC of the component's map alone", "units": "1"},
    "auc_without": {"long_name": "AUC of the map without the component", "units": "1"},
    "miou": {"long_name": "mIoU of the component's map alone, over patches", "units": "%"},
    "miou_without": {"long_name": "mIoU of the map without the component, over patches", "units": "%"},
    "miou_whole": {"long_name": "mIoU of all components together, over patches", "units": "%"},
    "class_images": {"long_name": "pictures that hold the class beside others", "units": "1"},
    "images": {"long_name": "pictures", "units": "1"},
}


def of_classes(values: Tensor, cosines: Tensor, owner: Tensor) -> Tensor:
    """What each component adds to the score of every class, through the class's best name at each patch.

    Args:
        values: (N, K, T).
        cosines: (N, T).
        owner: the class of each name, (T,).

    Returns: (N, K, S), for the S classes that have a name, in their order.

    >>> values = torch.tensor([[[1.0, 2.0, 3.0]]])
    >>> of_classes(values, values[:, 0], torch.tensor([4, 4, 7]))
    tensor([[[2., 3.]]])
    """
    maps = []
    for c in owner.unique().tolist():
        names = (owner == c).nonzero()[:, 0]
        best = names[cosines[:, names].argmax(-1)]  # (N,)
        maps.append(values.gather(-1, best[:, None, None].expand(-1, values.shape[1], 1))[..., 0])
    return torch.stack(maps, -1)


def area_under_curve(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """The chance that a patch of a class has a higher value than another patch, ties counting half (Mann and Whitney).

    Args:
        values: (…, N).
        positive: which patches are of the class, (N,) bool.

    >>> area_under_curve(np.array([0.9, 0.8, 0.1]), np.array([True, False, False]))
    array(1.)
    """
    ranks = rankdata(values, axis=-1)
    hits, others = int(positive.sum()), int((~positive).sum())
    return np.asarray((ranks[..., positive].sum(-1) - hits * (hits + 1) / 2) / (hits * others))


def _confusion(truth: Tensor, predicted: Tensor, classes: int) -> np.ndarray:
    """Counts (…, C, C) of true (n,) and predicted (…, n) classes."""
    cells = truth * classes + predicted  # (…, n)
    flat = cells.reshape(-1, cells.shape[-1])
    shift = torch.arange(len(flat), device=flat.device)[:, None] * classes**2
    counts = torch.bincount((flat + shift).flatten(), minlength=len(flat) * classes**2)
    return counts.view(*predicted.shape[:-1], classes, classes).cpu().numpy()
