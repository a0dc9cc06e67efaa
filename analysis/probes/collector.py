"""The measurement behind `collect`: every statistic of every map of one model, over a list of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from analysis.probes import store
from analysis.probes.compiled import CompiledPass
from analysis.probes.images import Picture
from analysis.probes.probe import Probe
from analysis.probes.statistics import NORMS, Statistic
from analysis.probes.summaries import Starts
from clearclip.entries import digest, list_digest
from clearclip.models.backbone import Backbone
from clearclip.models.finite import feature_sites, require_finite
from clearclip.models.memory import refuse_too_large
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.records import contents_of
from clearclip.runs.stream import Measurement

TOKEN_CHOICES = ("patches", "all")
COMPILED = "one graph of torch.compile"  # in the attribute `compiled` of what was measured so
FINITE = "finite"  # beside the statistics: whether a map is finite, checked at every site


Reader = Probe[tuple[Tensor, ...]] | CompiledPass


class Decoded(NamedTuple):
    """One picture as the model takes it."""

    position: int  # in the list of all pictures
    pixels: Tensor  # (3, H, W)


class Total(NamedTuple):
    """What has been measured so far; the values of single images lie in the collector, up to the number of images."""

    images: int
    sums: dict[str, ExactSum]  # of the statistics that are averaged over the images


class Collector(Measurement[Decoded, Total]):
    """Statistics of one model over one list of pictures."""

    def __init__(
        self,
        model: Backbone,
        pictures: Sequence[Picture],
        statistics: dict[str, Statistic],
        layers: tuple[int, ...],
        features: tuple[str, ...],
        image_size: int | None,
        batch_size: int,
        compiled: bool = False,
        reader: Reader | None = None,  # of another collector of the same, whose graph is compiled already
    ) -> None:
        self.model, self.entries, self.statistics = model, pictures, statistics
        self.layers, self.features, self.image_size = layers, features, image_size
        self.title, self.indices, self.batch_size = model.name, range(len(pictures)), batch_size
        model.grid(image_size)  # refuses a size that is not a multiple of the patch before anything runs
        self.transform = model.transform(image_size)
        self.summaries = {name: statistic.summary for name, statistic in statistics.items()}
        prefix = model.prefix_tokens  # patches and all tokens start at these; at one where they are the same
        self.starts = (prefix, 0) if prefix else (0,)
        self.needed = tuple(dict.fromkeys([NORMS, *(summary.summarise for summary in self.summaries.values())]))
        # not by a method: probe and collector would know each other, and keep the pictures until Python looks for such pairs
        at_once, one_by_one = (
            partial(reduce, needed=self.needed, starts=self.starts) for reduce in (summaries, summaries_one_by_one)
        )
        if compiled and reader is None:
            reader = CompiledPass(model, layers, features, at_once, min(batch_size, len(pictures)) or batch_size)
        on_cpu = model.device.type == "cpu"
        self.reader = reader or Probe(model, layers, features, one_by_one if on_cpu else at_once)
        together = self.reader.batch_size if isinstance(self.reader, CompiledPass) else min(batch_size, len(pictures))
        refuse_too_large(model, image_size, together)
        self.about = {"compiled": COMPILED} if isinstance(self.reader, CompiledPass) else {}
        shape = (len(pictures), len(layers), len(features), len(TOKEN_CHOICES))
        # allocated at once: small arrays that come one by one between large ones would let the heap grow
        self.positions = np.zeros(len(pictures), np.int64)
        self.values = {
            name: np.zeros(shape, np.float32) for name, statistic in statistics.items() if not statistic.dims
        }

    def key(self) -> dict[str, Any]:
        """Model, pictures, statistics and sites."""
        return {
            **self.about,
            **self.model.identity,
            "images": list_digest(self.entries),
            "image size": self.image_size or self.model.image_size,
            "batch size": self.batch_size,
            "statistics": {name: statistic.long_name for name, statistic in self.statistics.items()},
            "layers": self.layers,
            "features": self.features,
        }

    def read(self, index: int) -> Decoded:
        """One picture, decoded and preprocessed."""
        return Decoded(index, self.transform(self.entries[index].read()))

    @contextmanager
    def running(self) -> Iterator[None]:
        """The maps can be read."""
        if isinstance(self.reader, CompiledPass):
            yield
            return
        with self.reader as probe:
            probe.clear()  # every pass is checked by itself, and a share may have no picture that can be read
            yield

    def start(self) -> Total:
        """Nothing measured."""
        return Total(0, {})

    def update(self, total: Total, pictures: Sequence[Decoded]) -> Total:
        """Run a batch through the model and take its values in."""
        images = torch.stack([picture.pixels for picture in pictures])
        measured = self.measure(images.pin_memory() if self.model.device.type == "cuda" else images)
        names = [self.entries[picture.position].name for picture in pictures]
        sites = feature_sites(self.layers, self.features)
        require_finite(measured.pop(FINITE).flatten(1), names, sites, self.model)
        sums, end = dict(total.sums), total.images + len(pictures)
        for name, values in measured.items():
            array = values.float().cpu().numpy()
            if name in self.values:
                self.values[name][total.images : end] = array
            else:
                before = sums.get(name) or ExactSum.zeros(array.shape[1:])
                sums[name] = before.plus(array.astype(np.float64).sum(0))
        self.positions[total.images : end] = [picture.position for picture in pictures]
        return Total(end, sums)

    def measure(self, images: Tensor) -> dict[str, Tensor]:
        """Every statistic of a batch, on the device: (B, layers, features, token choices, …), and whether maps are finite."""
        sites = zip(*self.reader.run(images).values(), strict=True)
        stacked = {
            summary: torch.stack(maps, 1) for summary, maps in zip(self.needed, sites, strict=True)
        }  # (B, maps, …)
        result = {FINITE: self._by_site(stacked[NORMS].isfinite().all(-1))}
        for name, summary in self.summaries.items():
            values = self._by_site(summary.finish(stacked[summary.summarise], self.starts, self.model.width))
            result[name] = values.expand(*values.shape[:3], len(TOKEN_CHOICES), *values.shape[4:])
        return result

    def _by_site(self, values: Tensor) -> Tensor:
        return values.unflatten(1, (len(self.layers), len(self.features)))

    def state(self, total: Total) -> xr.Dataset:
        """The values of single images, and the sums over images."""
        dims, positions = ("layer", "feature", "tokens"), self.positions[: total.images]
        names = [self.entries[position].name for position in positions]
        coords: dict[str, Any] = {
            "image": ("image", np.array(names, dtype=object)),
            "layer": list(self.layers),
            "feature": list(self.features),
            "tokens": list(TOKEN_CHOICES),
        }
        variables: dict[str, Any] = {"position": ("image", positions)}
        for name, statistic in self.statistics.items():
            attrs = {"long_name": statistic.long_name, "units": statistic.units}
            if name in self.values:
                variables[name] = (("image", *dims), self.values[name][: total.images], attrs)
            elif name in total.sums:
                variables[name + store.SUM] = (("part", *dims, *statistic.dims), total.sums[name].parts, attrs)
        return xr.Dataset(variables, coords, self.about)

    def restore(self, state: xr.Dataset) -> Total:
        """What `state` kept."""
        images = state.sizes["image"]
        self.positions[:images] = state.position.values
        for name, values in self.values.items():
            values[:images] = state[name].values
        sums = [name for name, statistic in self.statistics.items() if statistic.dims and name + store.SUM in state]
        return Total(images, {name: ExactSum(state[name + store.SUM].values) for name in sums})

    def finish(self, states: Sequence[xr.Dataset], images: int) -> xr.Dataset:
        """The Dataset of statistics, without the facts about the model."""
        return finish(states, self.model.name, self.entries)


def summaries(x: Tensor, needed: Sequence[Callable[[Tensor, Starts], Tensor]], starts: Starts) -> tuple[Tensor, ...]:
    """One map (B, tokens, channels) → each of the summaries that statistics need of it, (B, …)."""
    return tuple(summarise(x, starts) for summarise in needed)


def summaries_one_by_one(
    x: Tensor, needed: Sequence[Callable[[Tensor, Starts], Tensor]], starts: Starts
) -> tuple[Tensor, ...]:
    """The same picture by picture, so that all that is made of a map finds it in the cache of a CPU."""
    each = (summaries(picture, needed, starts) for picture in x.split(1))
    return tuple(map(torch.cat, zip(*each, strict=True)))


def finish(states: Sequence[xr.Dataset], model: str, pictures: Sequence[Picture]) -> xr.Dataset:
    """The statistics of one run of a model of this name over these pictures, from the states of all its processes."""
    about = {name: fact for name, fact in states[0].attrs.items() if name == "compiled"}
    return store.finish(states, model).assign_attrs(about, image_list_sha256=digest(pictures, contents_of(states)))
