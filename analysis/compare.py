"""How do the methods compare, and do they reach the published numbers? (Paper Tables 2, 3 and 5)

    python -m analysis.compare --model clip_vitb16 clip_vitl14 --dataset voc20:data/voc ade20k:data/ade

The table has measured and published mIoU of every method, and their difference. Published are numbers of the same protocol
only, and a line says where each was printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import commands
from clearclip import cli
from clearclip.commands import evaluated

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options(commands.SweepOptions):
    """Which models, which data sets, and where the results go."""

    result: cli.Result = cli.Result(Path("results/compare.nc"))


def run(options: Options) -> xr.Dataset:
    """mIoU of every method that needs no second model."""
    from analysis.sweeps import recipe_lists

    return evaluated(options, recipe_lists.compare())


def main() -> None:
    """The command `python -m analysis.compare`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.readings import sweeps as readings
    from analysis.sweeps import table

    def reading(dataset: xr.Dataset) -> list[str]:
        return [*table.sources(dataset), *readings.compare(dataset)]

    commands.present_sweep(run, options, plots.compare, reading, table.methods)


if __name__ == "__main__":
    cli.run(main)
