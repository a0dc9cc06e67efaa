"""Images → statistics of every block, reduced inside the forward pass → xarray Dataset."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from analysis.probes import images as image_source
from analysis.probes import store
from analysis.probes.images import Picture
from analysis.probes.probe import Probe
from analysis.probes.statistics import FIGURE_4, NORMS, STATISTICS, Statistic, token_norms
from clearclip.errors import UserError, closest
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES
from clearclip.pictures import BadImage
from clearclip.runs import results
from clearclip.runs.ahead import ahead
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.processes import Processes, processes

TOKEN_CHOICES = ("patches", "all")
FINITE = "finite"  # beside the statistics: whether a map is finite, checked at every site


class Batch(NamedTuple):
    """Decoded pictures of one batch, and what could not be used of it."""

    names: list[str]
    positions: list[int]  # in the list of all pictures
    images: Tensor | None  # (B, 3, H, W), None if no picture of the batch could be read
    bad: list[str]  # one message a picture


def collect(
    model: Backbone,
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
    progress: bool = True,
) -> xr.Dataset:
    """Measure X_res, X_attn and X_sum of every block over images; one forward pass serves all statistics.

    Args:
        model: what `clearclip.load` gives.
        images: a folder, files, a list of `Picture`s, or None for scikit-image's photographs.
        statistics: names from `analysis.probes.statistics.STATISTICS`, or a dict of your own `Statistic`s.
        layers, features: which sites; layers count 1 … depth. image_size: pixels; None is the weights' own size.
        strict: raise on the first picture that cannot be read, instead of naming, counting and skipping it.
        unfinished: a file that holds the run while it grows; if it is there already, the run continues from it. Delete it
            once you have the result.
        shard: (which, of how many), for a share whose state is returned, for `result`. By default what torchrun says, and
            then every process returns the whole result.

    Memory does not depend on the number of tokens or images (apart from one number an image, layer and statistic).
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
    pictures = _pictures(images, limit)
    chosen = _chosen(statistics)
    group = processes() if shard is None else Processes(*shard)
    unfinished = None if unfinished is None else group.own(unfinished)
    run = _Run(model, pictures, chosen, model.layers(layers), tuple(features), image_size, batch_size, group.shard)
    run.resume(unfinished)
    numbered = list(enumerate(pictures))
    batches = group.share([numbered[i : i + batch_size] for i in range(0, len(numbered), batch_size)])
    bar = tqdm(
        total=sum(map(len, batches)),
        initial=sum(map(len, batches[: run.done.batches])),
        unit="img",
        desc=model.name,
        disable=not progress or group.number > 0,
    )
    with bar, torch.inference_mode(), run.probe:
        run.probe.clear()  # every pass is checked by itself, and a shard may have no picture that can be read
        last_saved, pending = time.monotonic(), None
        try:
            for batch in _decoded(batches[run.done.batches :], model.transform(image_size)):
                for message in batch.bad:
                    if strict:
                        raise UserError(f"{message} (refused because of strict)")
                    group.tell(f"skipped: {message}")
                measured = run.measure(
                    batch
                )  # only launches work on an accelerator; the batch before is read meanwhile
                if pending is not None:
                    bar.update(run.absorb(*pending))
                pending = batch, measured
                if unfinished is not None and run.done.batches and time.monotonic() - last_saved > results.SAVE_EVERY:
                    results.write(run.state(), unfinished)
                    last_saved = time.monotonic()
            if pending is not None:
                bar.update(run.absorb(*pending))
        except (KeyboardInterrupt, Exception):
            if unfinished is not None and run.done.batches:
                results.write(run.state(), unfinished)
            raise
    state = run.state(complete=True)
    if unfinished is not None:
        results.write(state, unfinished)
    return state if shard is not None else result(group.gather(state), model, pictures, image_size)


def result(
    states: Sequence[xr.Dataset], model: Backbone, images: Any = None, image_size: int | None = None
) -> xr.Dataset:
    """The Dataset of a run from the states of all its shards, the same as that of one undivided run.

    Raises `UserError` if a shard is missing, unfinished or of another run.
    """
    dataset = store.finish(states).expand_dims(model=[model.name])
    axes = {dim: np.arange(dataset.sizes[dim]) for dim in ("channel", "token") if dim in dataset.dims}
    return describe_model(dataset.assign_coords(axes), model, image_size, _pictures(images, None))


def _pictures(images: Any, limit: int | None) -> list[Picture]:
    if isinstance(images, list) and images and all(isinstance(picture, Picture) for picture in images):
        return images[:limit]
    return image_source.pictures(images, limit)


def _chosen(statistics: Sequence[str] | dict[str, Statistic]) -> dict[str, Statistic]:
    if isinstance(statistics, dict):
        return statistics
    for name in statistics:
        if name not in STATISTICS:
            raise UserError(f"unknown statistic {name!r}. Closest: {closest(name, list(STATISTICS))}.")
    return {name: STATISTICS[name] for name in statistics}


def _decoded(batches: Sequence[Sequence[tuple[int, Picture]]], transform: Any) -> Iterator[Batch]:
    """Batches in their order, decoded and preprocessed by threads while the caller works on the ones before."""

    def decode(picture: Picture) -> Tensor | BadImage:
        try:
            return transform(picture.read())
        except BadImage as error:
            return error

    for batch, decoded in ahead(lambda numbered: decode(numbered[1]), batches):
        good = [
            (where, picture.name, result)
            for (where, picture), result in zip(batch, decoded, strict=True)
            if isinstance(result, Tensor)
        ]
        stacked = torch.stack([image for _, _, image in good]) if good else None
        bad = [str(result) for result in decoded if isinstance(result, BadImage)]
        yield Batch([name for _, name, _ in good], [where for where, _, _ in good], stacked, bad)


class Done(NamedTuple):
    """What a run has taken in. It is replaced as a whole, so that Ctrl-C finds a batch in it or not, never half of one."""

    batches: int
    images: int
    skipped: int
    sums: dict[str, ExactSum]


class _Run:
    """One model over one list of pictures: what has been measured so far, and how it is kept."""

    def __init__(
        self,
        model: Backbone,
        pictures: list[Picture],
        statistics: dict[str, Statistic],
        layers: tuple[int, ...],
        features: tuple[str, ...],
        image_size: int | None,
        batch_size: int,
        shard: tuple[int, int],
    ) -> None:
        self.model, self.statistics, self.shard = model, statistics, shard
        self.layers, self.features = layers, features
        model.grid(image_size)  # refuses a size that is no multiple of the patch before anything runs
        self.probe = Probe(model, layers, features, reduce=self._reduce)
        self.key = results.run_key(
            {
                "model": model.architecture,
                "weights": model.weights.sha256,
                "precision": model.precision,
                "images": image_source.digest(pictures),
                "image size": image_size or model.image_size,
                "batch size": batch_size,
                "statistics": {name: statistic.long_name for name, statistic in statistics.items()},
                "layers": layers,
                "features": features,
                "shards": shard[1],
            }
        )
        self.names: list[str] = []
        self.positions: list[int] = []
        self.skipped: list[str] = []
        self.done = Done(0, 0, 0, {})
        shape = (len(pictures), len(layers), len(features), len(TOKEN_CHOICES))
        # allocated at once: small arrays that come one by one between large ones would let the heap grow
        self.values = {
            name: np.zeros(shape, np.float32) for name, statistic in statistics.items() if not statistic.dims
        }

    # inside the forward pass

    def measure(self, batch: Batch) -> dict[str, Tensor] | None:
        """Every statistic of a batch, on the device: (B, layers, features, token choices, …)."""
        if batch.images is None:
            return None
        images = batch.images.pin_memory() if self.model.device.type == "cuda" else batch.images
        sites = list(self.probe.run(images).values())
        stacked = {key: torch.stack([site[key] for site in sites], 1) for key in sites[0]}  # (B, maps, …)
        result = {}
        for name, statistic in self.statistics.items():
            if statistic.shared is None:
                values = stacked[name]
            else:
                values = statistic.shared.finish(stacked[statistic.shared.summarise], self._starts, self.model.width)
            values = values.unflatten(1, (len(self.layers), len(self.features)))
            result[name] = values.expand(*values.shape[:3], len(TOKEN_CHOICES), *values.shape[4:])
        result[FINITE] = stacked[FINITE].unflatten(1, (len(self.layers), len(self.features)))
        return result

    @property
    def _starts(self) -> tuple[int, ...]:
        """Where patches and all tokens start; one number where they are the same."""
        prefix = self.model.prefix_tokens
        return (prefix, 0) if prefix else (0,)

    def _reduce(self, x: Tensor) -> dict[Any, Tensor]:
        """One map (B, tokens, channels) → a summary for each group of statistics, or each statistic (B, choices, …)."""
        norms = token_norms(x)
        result: dict[Any, Tensor] = {FINITE: norms.isfinite().all(-1), NORMS: norms}
        for name, statistic in self.statistics.items():
            if statistic.shared is not None:
                if statistic.shared.summarise not in result:
                    result[statistic.shared.summarise] = statistic.shared.summarise(x, self._starts)
                continue
            values = [statistic.function(x[:, start:]) for start in self._starts]
            if statistic.dims == ("token",):  # where the prefix tokens stand, patches have nothing to say
                values = [
                    F.pad(value, (start, 0), value=torch.nan) for value, start in zip(values, self._starts, strict=True)
                ]
            result[name] = torch.stack(values, 1)
        return result

    # between the passes

    def absorb(self, batch: Batch, measured: dict[str, Tensor] | None) -> int:
        """Take a measured batch into the result; returns how many pictures it had."""
        done, sums = self.done, {}
        if measured is not None:
            self._refuse_non_finite(batch, measured.pop(FINITE).cpu().numpy())
            arrays = {name: values.float().cpu().numpy() for name, values in measured.items()}
            for name, array in arrays.items():
                if name in self.values:
                    self.values[name][done.images : done.images + len(array)] = array
                else:
                    before = done.sums.get(name) or ExactSum.zeros(array.shape[1:])
                    sums[name] = before.plus(array.astype(np.float64).sum(0))
        self.names[done.images :] = batch.names
        self.positions[done.images :] = batch.positions
        self.skipped[done.skipped :] = batch.bad
        self.done = Done(
            done.batches + 1, done.images + len(batch.names), done.skipped + len(batch.bad), {**done.sums, **sums}
        )
        return len(batch.names) + len(batch.bad)

    def _refuse_non_finite(self, batch: Batch, finite: np.ndarray) -> None:
        if finite.all():
            return
        image, layer, feature = np.argwhere(~finite)[0]
        hint = " In fp16 large residuals overflow: use bf16 or fp32." if self.model.precision == "fp16" else ""
        raise UserError(
            f"{batch.names[image]}: non-finite values in {self.features[feature]} of layer {self.layers[layer]} of "
            f"{self.model.name}.{hint}"
        )

    # on disk

    def state(self, complete: bool = False) -> xr.Dataset:
        """All that is needed to continue, or, when complete, to finish."""
        dims, done = ("layer", "feature", "tokens"), self.done
        coords: dict[str, Any] = {
            "image": ("image", np.array(self.names[: done.images], dtype=object)),
            "layer": list(self.layers),
            "feature": list(self.features),
            "tokens": list(TOKEN_CHOICES),
        }
        variables: dict[str, Any] = {"position": ("image", np.array(self.positions[: done.images], dtype=np.int64))}
        for name, statistic in self.statistics.items():
            attrs = {"long_name": statistic.long_name, "units": statistic.units}
            if name in self.values:
                variables[name] = (("image", *dims), self.values[name][: done.images], attrs)
            elif name in done.sums:
                variables[name + store.SUM] = (("part", *dims, *statistic.dims), done.sums[name].parts, attrs)
        about: dict[str, Any] = {
            "run": self.key,
            "batches_done": done.batches,
            "skipped": json.dumps(self.skipped[: done.skipped]),
            "shard": self.shard[0],
            "shards": self.shard[1],
            "complete": int(complete),
        }
        return xr.Dataset(variables, coords, about)

    def resume(self, unfinished: Path | None) -> None:
        """Take up an interrupted run, if there is one."""
        state = None if unfinished is None else results.read_unfinished(unfinished, self.key)
        if state is None:
            return
        self.skipped = json.loads(state.attrs["skipped"])
        self.names, self.positions = state.image.values.tolist(), state.position.values.tolist()
        for name, values in self.values.items():
            values[: len(self.names)] = state[name].values
        sums = {
            name: ExactSum(state[name + store.SUM].values)
            for name, statistic in self.statistics.items()
            if statistic.dims and name + store.SUM in state
        }
        self.done = Done(int(state.attrs["batches_done"]), len(self.names), len(self.skipped), sums)


def describe_model(
    dataset: xr.Dataset, model: Backbone, image_size: int | None, pictures: Sequence[Picture]
) -> xr.Dataset:
    """Add where the numbers of one model come from: coordinates along `model`, attributes for the whole."""
    rows, columns = model.grid(image_size)
    about = results.about_model(model) | {
        "image_size": model.image_size if image_size is None else image_size,
        "rows": rows,
        "columns": columns,
    }
    sources = {picture.name: picture.source for picture in pictures}
    dataset = dataset.assign_coords({name: ("model", [value]) for name, value in about.items()})
    dataset = dataset.assign_coords(source=("image", [sources[name] for name in dataset.image.values.tolist()]))
    dataset.layer.attrs = {"long_name": "layer", "units": "1"}
    used = {"images": dataset.sizes["image"], "image_list_sha256": image_source.digest(pictures)}
    dataset.attrs = {**dataset.attrs, **used, **results.provenance()}
    return dataset
