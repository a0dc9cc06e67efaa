"""What do the blocks make of a feature map? Entropy, maxima, norms and channels from one pass (paper Figs. 2 and 4).

    clearclip statistics --model clip_vitb16 dino_vitb16

One Dataset and one table hold all four; each has a figure of its own: results/statistics_entropy.png, ….
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import channels, commands
from clearclip import cli

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options(channels.Options):
    """Which models, which pictures, how the channel means are normalised, and where the results go."""

    result: cli.Result = cli.Result(Path("results/statistics.nc"))


def run(options: Options) -> xr.Dataset:
    """The statistics of Fig. 4 of every block, and the share of the strongest channels."""
    from analysis.probes.statistics import FIGURE_4, STATISTICS, channel_statistics

    names = [*FIGURE_4, "channel_dominance"]
    means = channel_statistics(options.normalization)
    return commands.statistics(options, {name: STATISTICS[name] for name in names} | means)


def main() -> None:
    """The command `clearclip statistics`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots

    commands.present_statistics(
        run,
        options,
        {
            "entropy": plots.entropy,
            "maximum": plots.maxima,
            "frobenius_norm": plots.norms,
            "channel_dominance": plots.channels,
        },
    )


if __name__ == "__main__":
    cli.run(main)
