"""Data set × recipes → intersection over union of every class, all recipes in one pass over the pictures."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix
from tqdm.auto import tqdm

from clearclip.datasets import LabelledPictures, Sample
from clearclip.errors import UserError
from clearclip.evaluation import protocol
from clearclip.evaluation.scores import scores
from clearclip.methods.recipes import Recipe, recipes
from clearclip.models.backbone import Backbone
from clearclip.pictures import BadImage
from clearclip.runs import results
from clearclip.runs.ahead import ahead
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.processes import Processes, processes
from clearclip.segmentation.labelling import class_labels
from clearclip.segmentation.segmenter import Segmenter
from clearclip.segmentation.windows import PatchLogits, Windows

BAR_EVERY = 2.0  # seconds between two looks at the running mIoU, for which the device has to be waited for


def evaluate(
    model: Backbone,
    dataset: LabelledPictures,
    recipe: str | Recipe | Iterable[str | Recipe] = ("clip", "maskclip", "sclip", "clearclip"),
    *,
    threshold: float | None = None,
    windows: Windows | None = None,
    prompts: str | Sequence[str] = "imagenet",
    cache: Path | None = None,
    proxy: Backbone | None = None,
    norms: bool = False,
    batch_size: int = 8,
    limit: int | None = None,
    strict: bool = False,
    unfinished: Path | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Segment a data set with every recipe in one pass, and compare with its labels.

    Args:
        model: a `Backbone` with a text tower. dataset: what `clearclip.datasets.load` gives, or any `LabelledPictures`.
        threshold: the score below which a pixel becomes class 0; None takes the protocol's for this data set and recipe.
        windows: None takes the protocol's. prompts, cache, proxy: as in `Segmenter`.
        norms: also measure the mean norms of X_res and X_attn (paper Fig. 2).
        batch_size: windows in one forward pass. limit: only the first so many pictures.
        strict: raise on the first picture or label that cannot be used, instead of naming, counting and skipping it.
        unfinished: a file that holds the run while it grows; if it is there already, the run continues from it.

    One confusion matrix a recipe over the whole split, so memory does not depend on the number of pictures. An interrupted
    or shared run (torchrun: every process takes a share and returns the whole result) ends with the same matrices.

    Returns: a Dataset (model, dataset, recipe, class) with iou, intersection, union, and miou, pixel_accuracy (percent),
    threshold, images, confusion (class, predicted) in pixels.
    Raises: `UserError` for recipes the model cannot serve, no usable picture, or a threshold without background class.

    >>> import clearclip
    >>> from clearclip.datasets import load
    >>> result = evaluate(clearclip.load("clip_tiny"), load("scenes", count=2), ["clip", "clearclip"], progress=False)
    >>> dict(result.iou.sizes)
    {'model': 1, 'dataset': 1, 'recipe': 2, 'class': 26}
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: at least one picture is needed.")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"threshold {threshold}: a score between 0 and 1.")
    chosen = recipes([recipe] if isinstance(recipe, (str, Recipe)) else recipe)
    levels = [protocol.threshold(dataset.name, one) if threshold is None else threshold for one in chosen]
    if any(levels) and dataset.classes[0] != "background":
        raise UserError(f"a threshold turns pixels into background, and {dataset.name} has no class background.")
    segmenter = Segmenter(
        model,
        dataset.classes,
        chosen,
        windows=windows or protocol.windows(dataset.name, model),
        prompts=prompts,
        cache=cache,
        proxy=proxy,
        batch_size=batch_size,
        norms=norms,
    )
    group = processes()
    run = _Run(segmenter, chosen, levels, dataset, limit, prompts, group)
    file = None if unfinished is None else group.own(unfinished)
    run.resume(file)
    _go_through(run, file, strict, progress)
    return _result(group.gather(run.state()), run)


def _go_through(run: "_Run", file: Path | None, strict: bool, progress: bool) -> None:
    """All batches of this process's share, from where the run stands."""
    bar = tqdm(
        total=sum(map(len, run.batches)),
        initial=sum(map(len, run.batches[: run.done.batches])),
        unit="img",
        desc=f"{run.segmenter.model.name} {run.dataset.name}",
        disable=not progress or run.group.number > 0,
    )
    saved = shown = time.monotonic()
    with bar:
        try:
            for batch, samples in ahead(run.read, run.batches[run.done.batches :]):
                bad = [str(sample) for sample in samples if isinstance(sample, BadImage)]
                for message in bad:
                    if strict:
                        raise UserError(f"{message} (refused because of strict)")
                    run.group.tell(f"skipped: {message}")
                run.absorb([sample for sample in samples if isinstance(sample, Sample)], bad)
                bar.update(len(batch))
                if not bar.disable and time.monotonic() - shown > BAR_EVERY:
                    bar.set_postfix_str(run.standing())
                    shown = time.monotonic()
                if file is not None and time.monotonic() - saved > results.SAVE_EVERY:
                    results.write(run.state(), file)
                    saved = time.monotonic()
            bar.set_postfix_str(run.standing())
        finally:  # also after Ctrl-C
            if file is not None and run.done.batches:
                results.write(run.state(), file)


class Done(NamedTuple):
    """What a run has taken in. It is replaced as a whole, so that Ctrl-C finds a batch in it or not, never half of one."""

    batches: int
    images: int
    skipped: tuple[str, ...]
    confusion: Tensor  # (recipes, classes, classes) int64, on the device; rows are the true classes
    norms: ExactSum  # (recipes, 2), of X_res and X_attn, summed over pictures


class _Run:
    """One model and recipes over one data set: what has been counted so far, and how it is kept."""

    def __init__(
        self,
        segmenter: Segmenter,
        chosen: list[Recipe],
        levels: list[float],
        dataset: LabelledPictures,
        limit: int | None,
        prompts: str | Sequence[str],
        group: Processes,
    ) -> None:
        self.segmenter, self.chosen, self.levels = segmenter, chosen, levels
        self.dataset, self.group, self.prompts = dataset, group, prompts
        count, step = min(len(dataset), limit or len(dataset)), max(1, segmenter.batch_size // 2)
        self.batches = group.share([range(i, min(i + step, count)) for i in range(0, count, step)])
        self.digest = hashlib.sha256(f"{dataset.identity} {dataset.classes}".encode()).hexdigest()
        model, proxy = segmenter.model, segmenter.encoder.proxy
        self.key = results.run_key(
            {
                "model": model.architecture,
                "weights": model.weights.sha256,
                "precision": model.precision,
                "proxy": proxy and [proxy.architecture, proxy.weights.sha256],
                "data set": self.digest,
                "limit": limit,
                "recipes": [asdict(one) for one in chosen],
                "thresholds": levels,
                "windows": asdict(segmenter.windows),
                "prompts": prompts,
                "batch size": segmenter.batch_size,
                "norms": segmenter.norms,
                "processes": group.count,
            }
        )
        classes = len(dataset.classes)
        confusion = torch.zeros(len(chosen), classes, classes, dtype=torch.int64, device=model.device)
        self.done = Done(0, 0, (), confusion, ExactSum.zeros((len(chosen), 2)))

    def read(self, index: int) -> Sample | BadImage:
        """One picture with its labels, or why it cannot be used."""
        try:
            return self.dataset[index]
        except BadImage as error:
            return error

    def absorb(self, samples: list[Sample], bad: list[str]) -> None:
        """Segment a batch with every recipe and count."""
        done = self.done
        confusion, norms = done.confusion, done.norms
        if samples:
            batch, measured = self._counted(samples)
            confusion = confusion + batch
            if measured is not None:
                norms = norms.plus(measured)
        self.done = Done(done.batches + 1, done.images + len(samples), (*done.skipped, *bad), confusion, norms)

    def _counted(self, samples: list[Sample]) -> tuple[Tensor, np.ndarray | None]:
        """Confusion matrices of a batch (recipes, classes, classes), and sums of the norms (recipes, 2)."""
        total, norms = torch.zeros_like(self.done.confusion), np.zeros((len(self.chosen), 2))
        owner = self.segmenter.queries.owner
        finite = torch.ones(len(self.chosen), dtype=torch.bool, device=owner.device)
        for sample, by_recipe in zip(samples, self._logits(samples), strict=True):
            truth = torch.from_numpy(sample.label.astype(np.int64)).to(owner.device, non_blocking=True)
            for i, (logits, level) in enumerate(zip(by_recipe.values(), self.levels, strict=True)):
                total[i] += multiclass_confusion_matrix(
                    class_labels(logits, (truth.shape[0], truth.shape[1]), owner, level),
                    truth,
                    len(self.dataset.classes),
                    ignore_index=self.dataset.ignore_index,
                    validate_args=False,
                )
                finite[i] &= torch.stack([one.isfinite().all() for _, one in logits.windows]).all()
                if logits.norms is not None:
                    norms[i] += logits.norms.double().mean(0).cpu().numpy()
        if not finite.all():
            self._refuse(self.chosen[int(finite.int().argmin())], samples)
        return total, norms if self.segmenter.norms else None

    def _refuse(self, recipe: Recipe, samples: list[Sample]) -> None:
        hint = (
            " In fp16 large residuals overflow: use bf16 or fp32." if self.segmenter.model.precision == "fp16" else ""
        )
        raise UserError(
            f"{', '.join(sample.name for sample in samples)}: recipe {recipe.name} of {self.segmenter.model.name} gave "
            f"non-finite values.{hint}"
        )

    def _logits(self, samples: list[Sample]) -> Iterator[dict[str, PatchLogits]]:
        return self.segmenter.logits([sample.image for sample in samples])

    def standing(self) -> str:
        """The running mIoU, of the best of many recipes."""
        miou = dict(
            zip((one.name for one in self.chosen), scores(self.done.confusion.cpu().numpy())["miou"], strict=True)
        )
        best = max(miou, key=lambda name: miou[name])
        shown = miou if len(miou) <= 4 else {f"best of {len(miou)}: {best}": miou[best]}
        return "mIoU " + ", ".join(f"{name} {value:.1f}" for name, value in shown.items())

    # on disk

    def state(self) -> xr.Dataset:
        """All that is needed to continue or to finish."""
        done = self.done
        return xr.Dataset(
            {
                "confusion": (("recipe", "class", "predicted"), done.confusion.cpu().numpy()),
                "norms": (("part", "recipe", "of"), done.norms.parts),
            },
            attrs={
                "run": self.key,
                "batches_done": done.batches,
                "images": done.images,
                "skipped": json.dumps(done.skipped),
            },
        )

    def resume(self, file: Path | None) -> None:
        """Take up an interrupted run, if there is one."""
        state = None if file is None else results.read_unfinished(file, self.key)
        if state is not None:
            self.done = Done(
                int(state.attrs["batches_done"]),
                int(state.attrs["images"]),
                tuple(json.loads(state.attrs["skipped"])),
                torch.from_numpy(state.confusion.values).to(self.done.confusion.device),
                ExactSum(state.norms.values),
            )


def _result(states: Sequence[xr.Dataset], run: _Run) -> xr.Dataset:
    """The Dataset of a run from the states of all its processes."""
    images = sum(int(state.attrs["images"]) for state in states)
    if not images:
        raise UserError(f"not one picture of {run.dataset.name} could be used.")
    confusion = np.sum([state.confusion.values for state in states], 0)
    about: dict[str, Any] = {
        name: ("model", [value]) for name, value in results.about_model(run.segmenter.model).items()
    }
    dims = {"miou": ("recipe",), "pixel_accuracy": ("recipe",), "confusion": ("recipe", "class", "predicted")}
    values = scores(confusion) | {"confusion": confusion}
    variables = {
        name: (("model", "dataset", *dims.get(name, ("recipe", "class"))), value[None, None], ATTRS[name])
        for name, value in values.items()
    }
    variables["images"] = (("model", "dataset"), np.array([[images]]), ATTRS["images"])
    variables["threshold"] = (("dataset", "recipe"), np.array([run.levels]), ATTRS["threshold"])
    if run.segmenter.norms:
        total = ExactSum.zeros((len(run.chosen), 2))
        for state in states:
            for part in state.norms.values:
                total.add(part)
        means = total.value() / images
        variables["x_attn_norm"] = (("model", "dataset", "recipe"), means[None, None, :, 1], ATTRS["x_attn_norm"])
        variables["x_res_norm"] = (("model", "dataset", "recipe"), means[None, None, :, 0], ATTRS["x_res_norm"])
    coords = about | {
        "model": [run.segmenter.model.name],
        "dataset": [run.dataset.name],
        **Recipe.to_coords(run.chosen),
        "class": run.dataset.classes,
        "predicted": run.dataset.classes,
        "split": ("dataset", [getattr(run.dataset, "split", "all")]),
        "data_sha256": ("dataset", [run.digest]),
        "windows": ("dataset", [str(run.segmenter.windows)]),
    }
    skipped = sorted(name for state in states for name in json.loads(state.attrs["skipped"]))
    prompts = run.prompts if isinstance(run.prompts, str) else json.dumps(list(run.prompts))
    attrs = {"skipped": json.dumps(skipped), "prompts": prompts}
    return xr.Dataset(variables, coords, attrs | results.provenance())


ATTRS = {
    "iou": {"long_name": "intersection over union", "units": "%"},
    "miou": {"long_name": "mIoU", "units": "%"},
    "pixel_accuracy": {"long_name": "pixel accuracy", "units": "%"},
    "intersection": {"long_name": "intersection", "units": "pixels"},
    "union": {"long_name": "union", "units": "pixels"},
    "confusion": {"long_name": "confusion matrix, true × predicted", "units": "pixels"},
    "images": {"long_name": "pictures", "units": "1"},
    "threshold": {"long_name": "background threshold", "units": "1"},
    "x_res_norm": {"long_name": "Frobenius norm of X_res", "units": "model units"},
    "x_attn_norm": {"long_name": "Frobenius norm of X_attn", "units": "model units"},
}
