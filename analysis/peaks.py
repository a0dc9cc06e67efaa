"""Who writes the peaks? The largest values of every map, where they stand, and which heads and neurons wrote the last one.

    python -m analysis.peaks --model dinov2_vits14 --images photo.jpg

The peak of X_res of the last layer is taken apart, or that of the map that is named: embedding, heads, neurons and biases add up to
it. X_out is what a block hands on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis import commands
from clearclip import cli
from clearclip.models.names import SHIPPED

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which models, which pictures, which peak is taken apart, and where the results go."""

    models: cli.Models = cli.Models(SHIPPED)
    pictures: commands.Pictures = commands.Pictures()
    layer: int | None = None
    """The layer whose peak is taken apart, counted from 1; by default the last."""
    feature: Literal["X_res", "X_attn", "X_sum", "X_out"] = "X_res"
    """The map of that layer."""
    among: Literal["all", "patches"] = "all"
    """Where peaks are looked for: on all tokens, CLS and registers included, or on patches only."""
    running: cli.Running = cli.Running(limit=12)
    result: cli.Result = cli.Result(Path("results/peaks.nc"))
    drawing: commands.Drawing = commands.Drawing()


def run(options: Options) -> xr.Dataset:
    """The largest values of every map, and who wrote the one that is asked for."""
    from analysis.attribution.peaks import measure

    return commands.each_model(
        options,
        lambda model, pictures: measure(
            model, pictures, options.layer, options.feature, options.among, options.pictures.image_size
        ),
    )


def main() -> None:
    """The command `python -m analysis.peaks`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.attribution import peak_tables
    from analysis.probes import store
    from analysis.readings import peaks

    commands.present(
        run,
        options,
        read=partial(store.read_maps, "peak"),
        report=peak_tables.report,
        reading=peaks.peaks,
        rows=peak_tables.tidy,
        draw=plots.peaks,
    )


if __name__ == "__main__":
    cli.run(main)
