"""How does the last block's attention output have to be weighed against its residual? X_res + α·X_attn (paper Fig. 6).

    python -m analysis.alpha --model clip_vitb16 --dataset voc20:data/voc

Every attention (qk, qq, kk, vv, identity) with α from 0.1 to 100; the FFN is off.
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

    result: cli.Result = cli.Result(Path("results/alpha.nc"))


def run(options: Options) -> xr.Dataset:
    """mIoU of five attentions at six weights."""
    from analysis.sweeps import recipe_lists

    return evaluated(options, recipe_lists.alpha())


def main() -> None:
    """The command `python -m analysis.alpha`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.readings import sweeps as readings

    commands.present_sweep(run, options, plots.alpha, readings.alpha)


if __name__ == "__main__":
    cli.run(main)
