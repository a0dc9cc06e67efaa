"""Is it the few strong channels of the residual that hurt? The top β of them removed, or X_res normalised (paper Table 4).

    python -m analysis.beta --model clip_vitb16 --dataset voc20:data/voc

q-q attention, FFN off; β is the share of the channels of X_res that are set to 0, those of the highest mean.
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

    result: cli.Result = cli.Result(Path("results/beta.nc"))


def run(options: Options) -> xr.Dataset:
    """mIoU of seven shares of pruned channels, and of X_res normalised."""
    from analysis.sweeps import recipe_lists

    return evaluated(options, recipe_lists.beta())


def main() -> None:
    """The command `python -m analysis.beta`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.readings import sweeps as readings

    commands.present_sweep(run, options, plots.beta, readings.beta)


if __name__ == "__main__":
    cli.run(main)
