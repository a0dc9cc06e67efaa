"""What do residual connection, FFN and kind of attention do in the last block? (Paper Table 1, Figs. 5 and 8)

    python -m analysis.ablation --model clip_vitb16 --dataset voc20:data/voc

Every attention (qk, qq, kk, vv, identity) with the block as it is, without residual (-RC), without FFN (-FFN), without both.
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

    result: cli.Result = cli.Result(Path("results/ablation.nc"))


def run(options: Options) -> xr.Dataset:
    """mIoU of five attentions in four variants of the last block."""
    from analysis.sweeps import recipe_lists

    return evaluated(options, recipe_lists.ablation())


def main() -> None:
    """The command `python -m analysis.ablation`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.readings import sweeps as readings

    commands.present_sweep(run, options, plots.ablation, readings.ablation)


if __name__ == "__main__":
    cli.run(main)
