"""How strong are residual and attention output beside each other? Frobenius norm per layer (paper Fig. 2).

    python -m analysis.norms --model clip_vitb16 clip_vitl14
    python -m analysis.norms --miou --model clip_vitb16 clip_vitl14 --dataset coco_stuff

With --miou: of the last block with each attention, beside the mIoU on labelled pictures (the whole of Fig. 2; its options
are those of the sweeps, see python -m analysis.norms --miou --help).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import commands
from clearclip import cli
from clearclip.commands import evaluated

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options(commands.StatisticsOptions):
    """Which models, which pictures, and where the results go."""

    result: cli.Result = cli.Result(Path("results/norms.nc"))


@dataclass(frozen=True, kw_only=True)
class MiouOptions(commands.SweepOptions):
    """Which models, which data sets, and where the results go."""

    result: cli.Result = cli.Result(Path("results/norms_miou.nc"))
    miou: bool = False
    """Measure the norms of the last block with each attention, beside the mIoU; this help is about that."""


def run(options: Options) -> xr.Dataset:
    """The statistics of Fig. 4 of every block."""
    from analysis.probes.statistics import FIGURE_4

    return commands.statistics(options, FIGURE_4)


def run_with_miou(options: MiouOptions) -> xr.Dataset:
    """Norms and mIoU of the last block with each attention."""
    from analysis.sweeps import recipe_lists

    return evaluated(options, recipe_lists.norms(), norms=True)


def main() -> None:
    """The command `python -m analysis.norms`."""
    if "--miou" in sys.argv:
        sweep = cli.parse(MiouOptions, __doc__)
        from analysis import plots
        from analysis.readings.sweeps import norms_and_miou

        commands.present_sweep(run_with_miou, sweep, plots.norms_and_miou, norms_and_miou)
    else:
        options = cli.parse(Options, __doc__)
        from analysis import plots

        commands.present_statistics(run, options, {"frobenius_norm": plots.norms})


if __name__ == "__main__":
    cli.run(main)
