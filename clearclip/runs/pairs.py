"""Several models over several data sets, one pair after another, each kept in an unfinished file of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import xarray as xr

from clearclip.models.backbone import Backbone
from clearclip.runs import unfinished_files
from clearclip.runs.processes import processes


class Named(Protocol):
    """What has a name, as a data set has."""

    @property
    def name(self) -> str: ...  # noqa: D102


Data = TypeVar("Data", bound=Named)


def measure_pairs(
    loaders: Sequence[Callable[[], Backbone]],
    datasets: Sequence[Data],
    output: Path,
    measure: Callable[[Backbone, Data, Path], xr.Dataset],
    merge: Callable[[Sequence[xr.Dataset]], xr.Dataset],
) -> xr.Dataset:
    """Measure every model on every data set; interrupted, the same call continues.

    Args:
        loaders: one function per model, as `clearclip.models.load` makes them, so that one model is in memory at a time.
        datasets: what `clearclip.datasets.load` gives.
        output: where the Dataset will be written. Unfinished runs are kept beside it until `unfinished_files.write_result`.
        measure: measures one pair, with the file that holds it while it grows.
        merge: joins the results of several pairs.

    Raises: `UserError` as `measure` does; under torchrun `Finished` in all processes but the first.
    """
    parts = []
    for load in loaders:
        model = load()
        for dataset in datasets:
            parts.append(measure(model, dataset, unfinished_files.beside(output, model.name, dataset.name)))
    merged = merge(parts) if len(parts) > 1 else parts[0]
    processes().leave_the_rest_to_the_first()
    return merged
