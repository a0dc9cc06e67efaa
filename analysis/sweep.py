"""Sweeps over recipes: one pass a model and data set, one Dataset, a table and a figure."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clearclip.errors import UserError
from clearclip.evaluation.door import GridOptions, evaluate_grid, output_file, report

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from clearclip.evaluation.sweep import Recipes

DIMS = {"model", "dataset", "recipe", "class"}


@dataclass(frozen=True)
class SweepOptions(GridOptions):
    """Which models, which data sets, and where the results go."""

    figure: Path | None = None
    """The figure, .png, .pdf or .svg; by default beside the Dataset."""
    data: Path | None = None
    """Draw an existing Dataset again, without running any model."""


def sweep_command(
    chosen: SweepOptions,
    command: str,
    recipes: "Recipes",
    draw: "Callable[[xr.Dataset], Figure]",
    show: "Callable[[xr.Dataset], pd.DataFrame] | None" = None,
    norms: bool = False,
) -> None:
    """The way of every sweep: evaluate all recipes, print the table, write Dataset, csv and figure, and say where."""
    from clearclip.segmentation import style

    output = chosen.data or output_file(chosen, command)
    figure = chosen.figure or output.with_suffix(".png")
    style.check_suffix(figure)
    dataset = read(chosen.data) if chosen.data else evaluate_grid(chosen, recipes, output, norms)
    written = [] if chosen.data else [output]
    written.append(report(dataset, output, show))
    style.save(draw(dataset), figure)
    print("wrote " + ", ".join(map(str, [*written, figure])))


def read(path: Path) -> "xr.Dataset":
    """Read the Dataset of a sweep; raises `UserError` if the file is missing or holds something else."""
    from clearclip.runs import results

    dataset = results.read(path)
    missing = DIMS - set(map(str, dataset.dims))
    if missing:
        raise UserError(f"{path} has no dimension {', '.join(sorted(missing))}, so no sweep has written it.")
    return dataset
