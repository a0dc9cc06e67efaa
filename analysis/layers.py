"""From which layer on do patches speak the language of the text? mIoU of X_res, X_attn and X_sum of every layer.

    python -m analysis.layers --model clip_vitb16 --dataset voc20:data/voc

A "logit lens" for patches: each map goes through the final norm and the projection as if it were the last one (paper Fig. 3
for every layer).
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

    result: cli.Result = cli.Result(Path("results/layers.nc"))


def run(options: Options) -> xr.Dataset:
    """mIoU of three feature maps of every layer."""
    from analysis.sweeps import recipe_lists

    return evaluated(options, recipe_lists.layers)


def main() -> None:
    """The command `python -m analysis.layers`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.readings import sweeps as readings
    from analysis.sweeps import table

    commands.present_sweep(run, options, plots.layers, readings.layers, table.layers)


if __name__ == "__main__":
    cli.run(main)
