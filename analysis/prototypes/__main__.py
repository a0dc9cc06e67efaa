"""Which feature map knows what is where, without any text? Nearest class prototypes in X_res, X_attn, X_sum of every layer.

    python -m analysis.prototypes --model dinov2_vits14 --dataset data/my_pictures

For any model, DINO included. Pictures 0, 2, 4, … of a labelled data set give the prototypes (the mean patch feature of each
class), pictures 1, 3, 5, … are segmented: every pixel takes the class of the prototype that its feature is most similar to.
Similarity is the cosine, of features as they are ("cosine") or with the channels' mean and deviation taken out
("standardised"), so that a few large channels cannot decide alone. --heads reads what every single head gathers, in place of the
maps, and tells how many heads know the place. Ctrl-C loses nothing: the same command continues.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import commands
from clearclip import cli
from clearclip.commands import same_data
from clearclip.models.names import SHIPPED

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which models, which labelled pictures, and where the results go."""

    models: cli.Models = cli.Models(SHIPPED)
    labelled: cli.Labelled = cli.Labelled(names="standard")
    layers: commands.Layers = commands.Layers()
    heads: bool = False
    """Read A·v of every head, before the output projection mixes the heads, in place of X_res, X_attn and X_sum."""
    short_side: int | None = None
    """Pixels to which the short side of a picture is resized; by default the segmentation protocol's 448, in proportion for
    models of small pictures."""
    running: cli.Running = cli.Running()
    result: cli.Result = cli.Result(Path("results/prototypes.nc"))
    drawing: commands.Drawing = commands.Drawing()


def run(options: Options) -> xr.Dataset:
    """mIoU of the nearest class prototype, for every layer and feature or head."""
    from analysis.prototypes.run import measure_models

    running = options.running
    return measure_models(
        cli.loaders(options.models, running),
        cli.datasets(options.labelled),
        cli.dataset_file(options.result),
        layers=options.layers.layers or None,
        heads=options.heads,
        short_side=options.short_side,
        batch_size=running.batch_size,
        limit=running.limit,
        strict=running.strict,
    )


def main() -> None:
    """The command `python -m analysis.prototypes`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.prototypes import table
    from analysis.readings.prototypes import reading

    commands.present(
        run,
        options,
        read=table.read,
        report=table.report,
        reading=reading,
        rows=table.tidy,
        draw=lambda dataset: (plots.prototype_heads if "head" in dataset.dims else plots.prototypes)(dataset),
        same_pictures=partial(same_data, options.labelled, options.running.limit),
    )


if __name__ == "__main__":
    cli.run(main)
