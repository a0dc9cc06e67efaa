"""Half of a data set → class prototypes; the other half → its segmentation by them, every layer and feature in one pass."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix
from tqdm.auto import tqdm

from analysis.prototype_maps import SIMILARITIES, Prototypes, class_shares, moments, nearest, similarities
from analysis.prototype_pictures import prepared, probed
from analysis.prototype_results import SUMS, known_from, result
from clearclip import results
from clearclip.ahead import ahead
from clearclip.blocks import FEATURES
from clearclip.datasets import LabelledPictures, Sample
from clearclip.errors import UserError
from clearclip.exactsum import ExactSum
from clearclip.pictures import BadImage
from clearclip.processes import Processes, processes
from clearclip.scores import scores
from clearclip.vit import Backbone
from clearclip.windows import Windows

HALVES = ("prototypes", "labels")  # what the first and the second half are used for


def measure(
    model: Backbone,
    dataset: LabelledPictures,
    *,
    layers: Sequence[int] | None = None,
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
        model: any `Backbone`. dataset: what `clearclip.datasets.load` gives, or any `LabelledPictures`.
        short_side: pixels to which pictures are resized, their shape kept up to whole patches; None is the protocol's 448
            (in proportion for models of small pictures). batch_size: pictures in one forward pass, if they are equal in size.
        limit, strict, unfinished: as in `clearclip.evaluate`; an interrupted or shared run (torchrun) ends with the same bits.

    Memory does not depend on the number of pictures or tokens.

    Returns: a Dataset (model, dataset, layer, feature, similarity, class) with iou, miou, pixel_accuracy (percent),
    intersection, union (pixels), images, prototype_images, prototype_patches.
    Raises: `UserError` for a data set of less than two pictures, or a half without a single usable one.

    >>> import clearclip
    >>> from clearclip.datasets import load
    >>> result = measure(clearclip.load("dino_tiny"), load("scenes", count=2), layers=[6], progress=False)
    >>> dict(result.miou.sizes)
    {'model': 1, 'dataset': 1, 'layer': 1, 'feature': 3, 'similarity': 2}
    """
    group = processes()
    run = Run(model, dataset, layers, short_side, batch_size, limit, group)
    file = None if unfinished is None else group.own(unfinished)
    run.resume(file)
    with torch.inference_mode():
        with run.learning() as take:
            _go_through(run, 0, take, file, strict, progress)
        with run.comparing(known_from(group.gather(run.state()), dataset.name)) as take:
            _go_through(run, 1, take, file, strict, progress)
    return result(group.gather(run.state()), run)


class Done(NamedTuple):
    """What a run has taken in. It is replaced as a whole, so that Ctrl-C finds a batch in it or not, never half of one."""

    batches: tuple[int, int]  # of the first and the second half
    images: tuple[int, int]
    skipped: tuple[str, ...]
    weights: ExactSum  # (C,), labelled patches of every class
    sums: ExactSum  # (layers, features, C, D)
    squares: ExactSum  # (layers, features, D)
    confusion: np.ndarray  # (layers, features, similarities, C, C) int64; rows are the true classes


Take = Callable[[list[Sample]], Done]


class Run:
    """One model over one data set: what has been counted so far, and how it is kept."""

    def __init__(
        self,
        model: Backbone,
        dataset: LabelledPictures,
        layers: Sequence[int] | None,
        short_side: int | None,
        batch_size: int,
        limit: int | None,
        group: Processes,
    ) -> None:
        self.model, self.dataset, self.layers, self.group = model, dataset, model.layers(layers), group
        self.windows = _sizes(model, short_side)
        count = min(len(dataset), len(dataset) if limit is None else limit)
        if count < 2:
            raise UserError(f"{dataset.name}, {count} pictures: at least two are needed, one for each half.")
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: at least 1.")
        self.batches = [group.share(_cut(range(half, count, 2), batch_size)) for half in (0, 1)]
        self.digest = hashlib.sha256(f"{dataset.identity} {dataset.classes}".encode()).hexdigest()
        self.key = results.run_key(
            {
                "model": model.architecture,
                "weights": model.weights.sha256,
                "precision": model.precision,
                "data set": self.digest,
                "limit": limit,
                "layers": self.layers,
                "short side": self.windows.short_side,
                "batch size": batch_size,
                "processes": group.count,
            }
        )
        classes, maps = len(dataset.classes), (len(self.layers), len(FEATURES))
        self.done = Done(
            (0, 0),
            (0, 0),
            (),
            ExactSum.zeros((classes,)),
            ExactSum.zeros((*maps, classes, model.width)),
            ExactSum.zeros((*maps, model.width)),
            np.zeros((*maps, len(SIMILARITIES), classes, classes), np.int64),
        )

    def read(self, index: int) -> Sample | BadImage:
        """One picture with its labels, or why it cannot be used."""
        try:
            return self.dataset[index]
        except BadImage as error:
            return error

    # the first half

    @contextmanager
    def learning(self) -> Iterator[Take]:
        """Inside, pictures can be taken into the sums over patches."""
        shares = torch.empty(0)
        with probed(self.model, self.layers, lambda _, patches: moments(patches, shares)) as forward:

            def take(samples: list[Sample]) -> Done:
                nonlocal shares
                done = self.done
                weights, sums, squares = (np.zeros(getattr(done, name).parts.shape[1:]) for name in SUMS)
                for images, labels in prepared(self.model, self.windows, samples):
                    grid = self.model.grid((images.shape[-2], images.shape[-1]))
                    shares = torch.stack([class_shares(label, grid, len(self.dataset.classes)) for label in labels])
                    found = forward(images)
                    weights += shares.cpu().double().sum((0, 2)).numpy()
                    sums += torch.stack([one.sums for one in found]).cpu().numpy().reshape(sums.shape)
                    squares += torch.stack([one.squares for one in found]).cpu().numpy().reshape(squares.shape)
                self._refuse_non_finite(np.isfinite(squares).all(-1).ravel(), samples)
                return done._replace(
                    weights=done.weights.plus(weights), sums=done.sums.plus(sums), squares=done.squares.plus(squares)
                )

            yield take

    # the second half

    @contextmanager
    def comparing(self, known: Prototypes) -> Iterator[Take]:
        """Inside, pictures can be segmented at every site and counted."""
        device, classes = self.model.device, len(self.dataset.classes)
        owner = torch.from_numpy(known.seen).to(device)
        mean, scale, vectors = (
            torch.from_numpy(part).flatten(0, 1).to(device) for part in (known.mean, known.scale, known.vectors)
        )
        labels, grid = torch.empty(0), (0, 0)

        def count(site: int, patches: Tensor) -> tuple[Tensor, Tensor]:
            """Confusion matrices of one site (similarities, C, C), and whether its maps are finite."""
            cosines = similarities(patches, mean[site], scale[site], vectors[site])
            found = [
                nearest(maps.unflatten(-1, grid), (labels.shape[1], labels.shape[2]), owner)
                for maps in cosines.unbind(1)
            ]
            ignored = self.dataset.ignore_index
            total = [
                multiclass_confusion_matrix(one, labels, classes, ignore_index=ignored, validate_args=False)
                for one in found
            ]
            return torch.stack(total), patches.isfinite().all()

        with probed(self.model, self.layers, count) as forward:

            def take(samples: list[Sample]) -> Done:
                nonlocal labels, grid
                confusion = self.done.confusion.copy()
                for images, truths in prepared(self.model, self.windows, samples):
                    labels, grid = truths, self.model.grid((images.shape[-2], images.shape[-1]))
                    found = forward(images)
                    self._refuse_non_finite(torch.stack([finite for _, finite in found]).cpu().numpy(), samples)
                    confusion += torch.stack([one for one, _ in found]).cpu().numpy().reshape(confusion.shape)
                return self.done._replace(confusion=confusion)

            yield take

    def _refuse_non_finite(self, finite: np.ndarray, samples: list[Sample]) -> None:
        if finite.all():
            return
        layer, feature = divmod(int(np.argmin(finite)), len(FEATURES))
        hint = " In fp16 large residuals overflow: use bf16 or fp32." if self.model.precision == "fp16" else ""
        raise UserError(
            f"{', '.join(sample.name for sample in samples)}: non-finite values in {FEATURES[feature]} of layer "
            f"{self.layers[layer]} of {self.model.name}.{hint}"
        )

    def standing(self, half: int) -> str:
        """The best running mIoU."""
        if not (half and self.done.images[1]):
            return ""
        miou = scores(self.done.confusion)["miou"]
        layer, feature, similarity = np.unravel_index(np.nanargmax(miou), miou.shape)
        return (
            f"best {FEATURES[feature]} of layer {self.layers[layer]}, {SIMILARITIES[similarity]}: {np.nanmax(miou):.1f}"
        )

    # on disk

    def state(self) -> xr.Dataset:
        """All that is needed to continue or to finish."""
        done = self.done
        return xr.Dataset(
            {
                "weights": (("part", "class"), done.weights.parts),
                "sums": (("part", "layer", "feature", "class", "channel"), done.sums.parts),
                "squares": (("part", "layer", "feature", "channel"), done.squares.parts),
                "confusion": (("layer", "feature", "similarity", "class", "predicted"), done.confusion),
                "batches": ("half", np.array(done.batches)),
                "images": ("half", np.array(done.images)),
            },
            attrs={"run": self.key, "skipped": json.dumps(done.skipped)},
        )

    def resume(self, file: Path | None) -> None:
        """Take up an interrupted run, if there is one."""
        state = None if file is None else results.read_unfinished(file, self.key)
        if state is not None:
            batches, images = state.batches.values.tolist(), state.images.values.tolist()
            weights, sums, squares = (ExactSum(state[name].values) for name in SUMS)
            self.done = Done(
                (batches[0], batches[1]),
                (images[0], images[1]),
                tuple(json.loads(state.attrs["skipped"])),
                weights,
                sums,
                squares,
                state.confusion.values,
            )


def _go_through(run: Run, half: int, take: Take, file: Path | None, strict: bool, progress: bool) -> None:
    """All batches of this process's share of one half, from where the run stands."""
    batches, start = run.batches[half], run.done.batches[half]
    bar = tqdm(
        total=sum(map(len, batches)),
        initial=sum(map(len, batches[:start])),
        unit="img",
        desc=f"{run.model.name} {run.dataset.name} {HALVES[half]}",
        disable=not progress or run.group.number > 0,
    )
    saved = time.monotonic()
    with bar:
        try:
            for batch, samples in ahead(run.read, batches[start:]):
                bad = [str(sample) for sample in samples if isinstance(sample, BadImage)]
                for message in bad:
                    if strict:
                        raise UserError(f"{message} (refused because of strict)")
                    tqdm.write(f"skipped: {message}")
                good = [sample for sample in samples if isinstance(sample, Sample)]
                run.done = _counted(take(good) if good else run.done, half, len(good), bad)
                bar.update(len(batch))
                if file is not None and time.monotonic() - saved > results.SAVE_EVERY:
                    results.write(run.state(), file)
                    bar.set_postfix_str(run.standing(half))
                    saved = time.monotonic()
            bar.set_postfix_str(run.standing(half))
        finally:  # also after Ctrl-C
            if file is not None and any(run.done.batches):
                results.write(run.state(), file)


def _counted(done: Done, half: int, images: int, bad: list[str]) -> Done:
    """One more batch of one half."""
    add = (1 - half, half)
    return done._replace(
        batches=(done.batches[0] + add[0], done.batches[1] + add[1]),
        images=(done.images[0] + images * add[0], done.images[1] + images * add[1]),
        skipped=(*done.skipped, *bad),
    )


def _cut(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _sizes(model: Backbone, short_side: int | None) -> Windows:
    """The protocol's sizes, or those in proportion to another short side."""
    usual = Windows.of(model)
    if short_side is None:
        return usual
    if short_side < model.patch_size:
        raise UserError(f"short side {short_side}: {model.name} needs at least one patch of {model.patch_size} pixels.")
    return replace(usual, short_side=short_side, long_side=usual.long_side * short_side // usual.short_side)
