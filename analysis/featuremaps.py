"""What does a feature map look like? Token × channel surfaces of X_res, X_attn, X_sum, peaks marked (paper Fig. 9).

    python -m analysis.featuremaps --model clip_vitb16 --layers 12 --limit 2

The Dataset holds the whole maps (image, layer, feature, token, channel), so name few pictures and layers; by default
it is two pictures and the last layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import commands
from clearclip import cli

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options(commands.BlocksOptions):
    """Which model, which pictures, which layers, and where the results go."""

    running: cli.Running = cli.Running(limit=2)
    result: cli.Result = cli.Result(Path("results/featuremaps.nc"))


def run(options: Options) -> xr.Dataset:
    """X_res, X_attn and X_sum whole, of few pictures and layers."""
    from analysis.probes.feature_maps import feature_maps

    layers, size = options.layers.layers or None, options.pictures.image_size
    return commands.each_model(options, lambda model, pictures: feature_maps(model, pictures, layers, size))


def main() -> None:
    """The command `python -m analysis.featuremaps`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.probes import feature_maps, store
    from analysis.readings import maps

    commands.present(
        run,
        options,
        read=partial(store.read_maps, "feature_map"),
        report=feature_maps.report,
        reading=maps.feature_maps,
        rows=feature_maps.tidy,
        draw=lambda dataset: plots.feature_maps(dataset, options.view.tokens),
    )


if __name__ == "__main__":
    cli.run(main)
