"""How evenly are the values of a feature map spread? Normalised entropy per layer (paper eq. 5, Fig. 4a).

python -m analysis.entropy --model clip_vitb16 dino_vitb16
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import commands
from clearclip import cli

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options(commands.StatisticsOptions):
    """Which models, which pictures, and where the results go."""

    result: cli.Result = cli.Result(Path("results/entropy.nc"))


def run(options: Options) -> xr.Dataset:
    """The statistics of Fig. 4 of every block."""
    from analysis.probes.statistics import FIGURE_4

    return commands.statistics(options, FIGURE_4)


def main() -> None:
    """The command `python -m analysis.entropy`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots

    commands.present_statistics(run, options, {"entropy": plots.entropy})


if __name__ == "__main__":
    cli.run(main)
