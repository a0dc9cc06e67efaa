"""Which heads and FFNs find the classes, and which are noise? AUC and mIoU of every component alone, and of all but it.

    python -m analysis.components --model clip_vitb16 --dataset data/my_pictures --recipe clip

The score of every patch is taken apart into what each head, FFN and bias has added to it. Over labelled pictures, each one's
map is compared with the labels. Classes are found by their names or, for models without a text tower and with --prototypes,
by the mean features of every other picture. Ctrl-C loses nothing: the same command continues.
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
    """Which models, which labelled pictures, which recipe, and where the results go."""

    models: cli.Models = cli.Models(SHIPPED)
    labelled: cli.Labelled = cli.Labelled()
    recipe: str = "clip"
    """What the last block does: a recipe without stages around it, such as clip, clearclip, maskclip."""
    prototypes: bool = False
    """Find classes by the mean features of pictures 0, 2, 4, … in the others, also where there is a text tower."""
    map_class: str = ""
    """The class that table and figure are about; by default the mean over all."""
    text: cli.Text = cli.Text()
    running: cli.Running = cli.Running()
    result: cli.Result = cli.Result(Path("results/components.nc"))
    drawing: commands.Drawing = commands.Drawing()


def run(options: Options) -> xr.Dataset:
    """What every component is worth, for all models and data sets."""
    from analysis.attribution.run import worth_of_models

    running = options.running
    return worth_of_models(
        cli.loaders(options.models, running),
        cli.datasets(options.labelled),
        cli.dataset_file(options.result),
        recipe=options.recipe,
        prototypes=options.prototypes or None,
        prompts=cli.templates(options.text),
        cache=cli.text_cache(options.text),
        batch_size=running.batch_size,
        limit=running.limit,
        strict=running.strict,
    )


def main() -> None:
    """The command `python -m analysis.components`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.attribution import run as worth
    from clearclip.runs import results

    commands.present(
        run,
        options,
        read=lambda path: results.read(path, "components"),
        report=partial(worth.report, name=options.map_class),
        reading=worth.reading,
        rows=worth.tidy,
        draw=partial(plots.components, name=options.map_class),
        same_pictures=partial(same_data, options.labelled, options.running.limit),
    )


if __name__ == "__main__":
    cli.run(main)
