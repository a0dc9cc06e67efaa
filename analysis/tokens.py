"""Do tokens stand out, and do they point the same way? Outlier tokens, channel dominance, effective rank, mean cosine.

    python -m analysis.tokens --model dinov2_vitb14 dinov2_vitb14_reg clip_vitb16

A token is an outlier if its norm is over three times the median norm of its map. The maps show where in the picture
the tokens are long, averaged over the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import commands
from clearclip import cli
from clearclip.errors import UserError

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options(commands.StatisticsOptions):
    """Which models, which pictures, which layer is mapped, and where the results go."""

    result: cli.Result = cli.Result(Path("results/tokens.nc"))
    map_layer: int | None = None
    """The layer whose token norms are drawn as a map; by default the last."""


def run(options: Options) -> xr.Dataset:
    """Five statistics of the tokens, and their norms."""
    from analysis.probes.statistics import TOKENS

    layers = options.layers.layers
    if options.map_layer is not None and layers and options.map_layer not in layers:
        raise UserError(f"map layer {options.map_layer} is not among the layers {layers} that are measured.")
    return commands.statistics(options, TOKENS)


def main() -> None:
    """The command `python -m analysis.tokens`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots

    draw = partial(plots.tokens, map_layer=options.map_layer)
    commands.present_statistics(run, options, {"norm_ratio": draw})


if __name__ == "__main__":
    cli.run(main)
