"""Is a feature map carried by a few channels? Channel means, normalised and sorted (paper Fig. 4c).

    python -m analysis.channels --model clip_vitb16 dino_vitb16 --normalization minmax

The table gives the share of the absolute mass that lies in the 5 strongest channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis import commands
from clearclip import cli

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options(commands.StatisticsOptions):
    """Which models, which pictures, how the means are normalised, and where the results go."""

    result: cli.Result = cli.Result(Path("results/channels.nc"))
    normalization: Literal["minmax", "max", "none"] = "minmax"
    """How the channel means of one image are normalised before they are averaged; the paper does not say."""


def run(options: Options) -> xr.Dataset:
    """Channel means, and the share of the strongest channels."""
    from analysis.probes.statistics import STATISTICS, channel_statistics

    dominance = {"channel_dominance": STATISTICS["channel_dominance"]}
    return commands.statistics(options, dominance | channel_statistics(options.normalization))


def main() -> None:
    """The command `python -m analysis.channels`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots

    commands.present_statistics(run, options, {"channel_dominance": plots.channels})


if __name__ == "__main__":
    cli.run(main)
