"""Is a feature map carried by a few channels? Channel means, normalised and sorted (paper Fig. 4c).

    python -m analysis.channels --model clip_vitb16 dino_vitb16 --normalization minmax

The table gives the share of the absolute mass that lies in the 5 strongest channels.
"""

from dataclasses import dataclass
from typing import Literal

from analysis.commands import Options, statistics_command
from clearclip.cli import options, run


@dataclass(frozen=True)
class ChannelOptions(Options):
    """Which models, which pictures, how the means are normalised, and where the results go."""

    normalization: Literal["minmax", "max", "none"] = "minmax"
    """How the channel means of one image are normalised before they are averaged; the paper does not say."""


def main() -> None:
    """The command `python -m analysis.channels`."""
    chosen = options(ChannelOptions, __doc__ or "")
    from analysis import plots
    from analysis.probes.statistics import STATISTICS, channel_statistics

    statistics = {"channel_dominance": STATISTICS["channel_dominance"], **channel_statistics(chosen.normalization)}
    statistics_command(
        chosen, "channels", statistics, "channel_dominance", lambda dataset: plots.channels(dataset, chosen.tokens)
    )


if __name__ == "__main__":
    run(main)
