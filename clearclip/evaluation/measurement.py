"""One model and its recipes over one data set: pixels counted by true class and label, beside a model that goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from clearclip.datasets import LabelledPictures
from clearclip.datasets.entries import entries, list_digest, meaning
from clearclip.entries import digest
from clearclip.evaluation import confusion, per_image, scores
from clearclip.evaluation.per_image import Areas
from clearclip.evaluation.protocol import Level
from clearclip.methods.recipes import Recipe
from clearclip.methods.windows import PatchLogits
from clearclip.models.arrival import Arriving, arriving
from clearclip.models.finite import require_finite
from clearclip.models.threads import threads
from clearclip.runs import results
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.records import contents_of
from clearclip.runs.stream import Measurement
from clearclip.segmentation.prepared import Prepared
from clearclip.segmentation.segmenter import Segmenter

Work = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]  # how what is done for each recipe is shared out


class Labelled(NamedTuple):
    """A picture with its place in the data set, its name and its true labels."""

    place: int
    name: str
    picture: Prepared
    label: np.ndarray  # (H, W)
    rows: Tensor  # `confusion.true_rows`


class Counted(NamedTuple):
    """What a batch adds to one recipe."""

    counts: Tensor  # (1 or pictures, (classes + 1) · classes)
    norms: Arriving | None  # (2,), of X_res and X_attn, summed over its pictures


class Total(NamedTuple):
    """What has been counted so far."""

    counts: Tensor  # (recipes, (classes + 1) · classes) int64, on the device; the last row is of what is ignored
    norms: ExactSum  # (recipes, 2), of X_res and X_attn, summed over pictures
    each: tuple[Areas, ...] = ()  # empty unless asked for
    last: Callable[[], Total] | None = None  # gives the total with the last batch too, which is still being counted

    def whole(self) -> Total:
        """With the last batch, which is waited for."""
        return self if self.last is None else self.last()


class Evaluation(Measurement[Labelled, Total]):
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
        self.classes, self.owner = len(dataset.classes), segmenter.queries.owner
        alone = any(recipe.one_by_one for recipe in recipes)  # then pictures do not share forward passes
        self.batch_size = 1 if alone else segmenter.batch_size

    def key(self) -> dict[str, Any]:
        """Model, data set, recipes, and how windows and texts are made."""
        model, proxy = self.segmenter.model, self.segmenter.encoder.proxy
        return {
            **model.identity,
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

    def read(self, index: int) -> Labelled:
        """One picture with its labels, prepared for the model."""
        image, label, name = self.entries[index].read()
        rows = confusion.true_rows(label, self.classes, self.dataset.ignore_index)
        if self.owner.device.type == "cuda":
            rows = rows.pin_memory()
        return Labelled(index, name, self.segmenter.prepare(image), label, rows)

    def held(self, picture: Labelled) -> int:
        """The photograph as it was read, and its labels: what reading one like it takes at the least."""
        return 3 * picture.picture.height * picture.picture.width + picture.label.nbytes + picture.rows.nbytes

    @contextmanager
    def running(self) -> Iterator[None]:
        """Threads: of a small model one for itself, while others read and count; of a large one all of them for each in turn."""
        if self.owner.device.type != "cpu":
            self._work: Work = lambda count, recipes: [count(recipe) for recipe in recipes]
            self._beside = False
            yield
            return
        count = torch.get_num_threads()
        worth = self.segmenter.threads
        with ThreadPoolExecutor(count, "count", partial(torch.set_num_threads, 1)) as pool, threads(worth):
            self._work, self._beside = pool.map, worth < count
            yield

    def start(self) -> Total:
        """Nothing counted."""
        counts = confusion.no_counts(len(self.recipes), self.classes, self.owner.device)
        return Total(counts, ExactSum.zeros((len(self.recipes), 2)))

    def update(self, total: Total, pictures: Sequence[Labelled]) -> Total:
        """Segment a batch with every recipe, and begin to count it."""
        checks: list[Callable[[], None]] = []
        by_picture = list(self._logits(pictures, checks))
        before = total.whole()  # with the last batch, which has been counted meanwhile
        counting = self._work(partial(self._count, pictures, by_picture), range(len(self.recipes)))

        @cache
        def whole() -> Total:
            for check in checks:
                check()
            return self._plus(before, pictures, list(counting))

        return before._replace(last=whole) if self._beside or checks else whole()

    def _logits(
        self, pictures: Sequence[Labelled], checks: list[Callable[[], None]]
    ) -> Iterator[dict[str, PatchLogits]]:
        """Of every picture; the true labels go to those recipes only that are told them."""

        def later(finite: Tensor, *about: Any) -> None:
            """Look whether all is finite when the device has come so far, and not wait for it now."""
            values = arriving(finite)
            checks.append(lambda: require_finite(values.wait(), *about))

        return self.segmenter.logits(
            [picture.picture for picture in pictures],
            [picture.name for picture in pictures],
            truth=[picture.label for picture in pictures],
            check=later if self.owner.device.type == "cuda" else require_finite,
        )

    @torch.inference_mode()
    def _count(
        self, pictures: Sequence[Labelled], by_picture: Sequence[dict[str, PatchLogits]], recipe: int
    ) -> Counted:
        """What a batch adds to one recipe."""
        parts, level = self.per_image * len(pictures) or 1, self.levels[recipe]
        counts = confusion.no_counts(parts, self.classes, self.owner.device)
        norms = []
        for i, (picture, by_recipe) in enumerate(zip(pictures, by_picture, strict=True)):
            logits = by_recipe[self.recipes[recipe].name]
            rows = picture.rows.to(self.owner.device, non_blocking=True)
            confusion.count(counts[i % parts], logits, rows, self.owner, level)
            if logits.norms is not None:
                norms.append(logits.norms.double().mean(0))
        return Counted(counts, arriving(torch.stack(norms).sum(0)) if norms else None)

    def _plus(self, total: Total, pictures: Sequence[Labelled], counted: Sequence[Counted]) -> Total:
        """The total with a batch, from what it adds to each recipe."""
        counts, norms, each = torch.stack([part.counts for part in counted], 1), total.norms, total.each
        arrived = [part.norms.wait().numpy() for part in counted if part.norms is not None]
        if arrived:
            norms = norms.plus(np.stack(arrived))
        if self.per_image:
            areas = scores.areas(confusion.matrices(counts, self.classes).cpu().numpy())
            each += tuple(Areas(*named[:2], part) for named, part in zip(pictures, areas, strict=True))
        return Total(total.counts + counts.sum(0), norms, each)

    def standing(self, total: Total) -> str:
        """The running mIoU, of the best of many recipes."""
        names = [recipe.name for recipe in self.recipes]
        miou = dict(zip(names, scores.iou_scores(self._matrices(total))["miou"], strict=True))
        if len(miou) > 4:
            best = max(miou, key=lambda name: miou[name])
            miou = {f"best of {len(miou)}: {best}": miou[best]}
        return "mIoU " + ", ".join(f"{name} {value:.1f}" for name, value in miou.items())

    def state(self, total: Total) -> xr.Dataset:
        """Confusion matrices, sums of norms, and what is kept of each picture if that is asked for."""
        total = total.whole()
        sums = xr.Dataset(
            {
                "confusion": (("recipe", "class", "predicted"), self._matrices(total)),
                "norms": (("part", "recipe", "of"), total.norms.parts),
            }
        )
        if not self.per_image:
            return sums
        pictures = per_image.kept(total.each, len(self.recipes), len(self.dataset.classes))
        return sums.merge(pictures).assign_attrs(pictures.attrs)

    def restore(self, state: xr.Dataset) -> Total:
        """What `state` kept."""
        counts = torch.from_numpy(state.confusion.values).to(self.owner.device).flatten(1)
        each = per_image.restored(state) if self.per_image else ()
        return Total(F.pad(counts, (0, self.classes)), ExactSum(state.norms.values), each)

    def _matrices(self, total: Total) -> np.ndarray:
        """The confusion matrices of all that has been counted, (recipes, classes, classes)."""
        return confusion.matrices(total.whole().counts, self.classes).cpu().numpy()

    def finish(self, states: Sequence[xr.Dataset], images: int) -> xr.Dataset:
        """The Dataset of a run from the states of all its processes."""
        matrices = np.sum([state.confusion.values for state in states], 0)
        data_sha256 = digest(self.entries, contents_of(states), meaning(self.dataset))
        about: dict[str, Any] = {
            name: ("model", [value]) for name, value in results.about_model(self.segmenter.model).items()
        }
        dims = {"miou": ("recipe",), "pixel_accuracy": ("recipe",), "confusion": ("recipe", "class", "predicted")}
        values = scores.iou_scores(matrices) | {"confusion": matrices}
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


ATTRS = scores.ATTRS | {
    "confusion": {"long_name": "confusion matrix, true × predicted", "units": "pixels"},
    "images": {"long_name": "pictures", "units": "1"},
    "threshold": {"long_name": "background threshold", "units": "1"},
    "scale": {"long_name": "factor of cosines before the softmax", "units": "1"},
    "x_res_norm": {"long_name": "Frobenius norm of X_res", "units": "model units"},
    "x_attn_norm": {"long_name": "Frobenius norm of X_attn", "units": "model units"},
}
