"""Which patches are like this one? Cosine similarity of one patch to all others in X_res, X_attn and X_sum of every layer.

    python -m analysis.similarity --model dinov2_vits14 --images photo.jpg --at 0.4 0.6

--at names the point that asks, as shares of the height and of the width of what the model sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import commands
from clearclip import cli
from clearclip.models.names import SHIPPED

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which models, which pictures, which point and layers, and where the results go."""

    models: cli.Models = cli.Models(SHIPPED)
    pictures: commands.Pictures = commands.Pictures()
    layers: commands.Layers = commands.Layers()
    at: tuple[float, float] = (0.5, 0.5)
    """The point that asks: shares of the height and of the width, 0 0 at the upper left."""
    running: cli.Running = cli.Running(limit=1)
    result: cli.Result = cli.Result(Path("results/similarity.nc"))
    drawing: commands.Drawing = commands.Drawing()


def run(options: Options) -> xr.Dataset:
    """Similarity maps of the patch at the point that asks."""
    from analysis.probes.similarity import similarity_maps

    layers, size = options.layers.layers or None, options.pictures.image_size
    return commands.each_model(
        options, lambda model, pictures: similarity_maps(model, pictures, options.at, layers, image_size=size)
    )


def main() -> None:
    """The command `python -m analysis.similarity`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.probes import similarity, store
    from analysis.readings import maps

    commands.present(
        run,
        options,
        read=partial(store.read_maps, "similarity"),
        report=similarity.report,
        reading=maps.similarity,
        rows=similarity.tidy,
        draw=plots.similarity,
    )


if __name__ == "__main__":
    cli.run(main)
