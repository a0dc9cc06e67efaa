"""What do the patches of several pictures have in common? Their principal components as colors, in any layer and map.

    python -m analysis.pca --model dinov2_vits14 --images my/photos --limit 4 --layers 6 12 --features X_sum

The components are joint over the pictures: one color means the same in all of them. --foreground leaves out the
background first, as DINOv2's figure does.
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
    """Which models, which pictures, which layers, maps and components, and where the results go."""

    models: cli.Models = cli.Models(SHIPPED)
    pictures: commands.Pictures = commands.Pictures()
    layers: commands.Layers = commands.Layers()
    features: tuple[Literal["X_res", "X_attn", "X_sum"], ...] = ("X_res", "X_attn", "X_sum")
    """Which maps."""
    components: int = 3
    """How many components; the figure shows the first three as red, green and blue."""
    foreground: bool = False
    """Only the foreground: the patches beyond the mean of a first component, on the side away from the pictures' borders."""
    running: cli.Running = cli.Running(limit=3)
    result: cli.Result = cli.Result(Path("results/pca.nc"))
    drawing: commands.Drawing = commands.Drawing()


def run(options: Options) -> xr.Dataset:
    """Scores of the principal components at every patch; of the last layer unless layers are named."""
    from analysis.probes.pca import pca_maps

    return commands.each_model(
        options,
        lambda model, pictures: pca_maps(
            model,
            pictures,
            options.layers.layers,
            options.features,
            options.components,
            options.foreground,
            options.pictures.image_size,
            options.running.batch_size,
        ),
    )


def main() -> None:
    """The command `python -m analysis.pca`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.probes import pca, store
    from analysis.readings import maps

    commands.present(
        run,
        options,
        read=partial(store.read_maps, "pca"),
        report=pca.report,
        reading=maps.pca,
        rows=pca.tidy,
        draw=plots.pca,
    )


if __name__ == "__main__":
    cli.run(main)
