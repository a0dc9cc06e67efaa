"""From the parts of a stream to its Dataset: means and spreads, from one part at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import xarray as xr

from analysis.probes.collector import TOKEN_CHOICES, Collector
from analysis.probes.over_images import MOMENTS
from analysis.probes.store import SUM
from analysis.scale.parts import POWERS, Folder, Sums
from analysis.scale.sources import Shards
from clearclip.errors import UserError
from clearclip.runs import results
from clearclip.runs.exact_sum import ExactSum

NAMED = 100  # skipped pictures whose messages stand in the Dataset; those of all are in the parts


def of_parts(run: Folder, shards: Shards, collector: Collector, limit: int | None = None) -> xr.Dataset:
    """The statistics of a stream, the same bits whichever process measured which parts.

    Raises: `UserError` if a part is missing, or not one picture could be used.
    """
    totals: dict[str, ExactSum] = {}
    images = skipped = 0
    messages: list[str] = []
    content = hashlib.sha256()
    for facts, arrays in _all_parts(run, shards, limit):
        images += facts.images
        skipped += len(facts.skipped)
        messages += facts.skipped[: NAMED - len(messages)]
        content.update(facts.content.encode())
        for name, array in arrays.items():
            terms = array if name.endswith(SUM) else array[None]
            total = totals.setdefault(name, ExactSum.zeros(terms.shape[1:]))
            for term in terms:
                total.add(term)
    if not images:
        raise UserError(f"not one picture of {shards.name} could be used.")
    means = {name: total.value() / images for name, total in totals.items()}
    return _dataset(means, collector).assign_attrs(
        collector.about,
        images=images,
        image_list_sha256=content.hexdigest(),
        skipped=json.dumps(messages),
        skipped_images=skipped,
    )


def described(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """A Dataset of a stream with where its pictures came from, and provenance."""
    about = {"source": ("model", [source]), "pictures": ("model", [dataset.attrs["images"]])}
    return dataset.assign_coords(about).assign_attrs(results.provenance())


def _all_parts(run: Folder, shards: Shards, limit: int | None) -> Iterator[Sums]:
    """The parts of all shards, in their order."""
    left = limit
    for shard, label in enumerate(shards.labels):
        if left == 0:
            return
        last = False
        for part in run.of_shard(shard):
            yield part
            last = part.facts.last
            left = None if left is None else left - part.facts.examples
        if not last:
            raise UserError(
                f"{label}: not all of its parts are in {run.path}. Repeat the command to measure them; machines that share a run "
                "need a folder that all of them see."
            )


def _dataset(means: dict[str, np.ndarray], collector: Collector) -> xr.Dataset:
    """Averages over the pictures by the names of their arrays, as a Dataset."""
    sites = ("layer", "feature", "tokens")
    variables = {}
    for name, statistic in collector.statistics.items():
        if statistic.dims:
            dims, values = (*sites, *statistic.dims), means[name + SUM]
        else:
            first, second = means[name + POWERS]
            dims, values = ("moment", *sites), np.stack([first, np.sqrt(np.maximum(second - first**2, 0))])
        attrs = {"long_name": statistic.long_name, "units": statistic.units}
        variables[name] = (dims, values.astype(np.float32), attrs)
    labels = dict(zip(sites, (collector.layers, collector.features, TOKEN_CHOICES), strict=True))
    result = xr.Dataset(variables, {dim: list(values) for dim, values in labels.items()})
    axes = {dim: np.arange(result.sizes[dim]) for dim in ("channel", "token") if dim in result.dims}
    return result.assign_coords(axes | ({"moment": list(MOMENTS)} if "moment" in result.dims else {}))
