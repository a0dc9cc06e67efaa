"""What do recipes and feature maps make of the same pictures? Label maps beside photo and truth (paper Figs. 1, 3, 7, 10, 11).

    python -m analysis.maps --model clip_vitb16 --dataset coco_stuff:data/coco --recipe clip maskclip sclip clearclip
    python -m analysis.maps --model clip_vitb16 --images my/photos --classes "horse, grass, sky"

All recipes of a picture share one pass through the model. The Dataset holds pictures and label maps, with a long side of
512 pixels at most, so name few pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import commands
from clearclip import cli
from clearclip.errors import UserError
from clearclip.textfiles import readable

if TYPE_CHECKING:
    import xarray as xr

    from clearclip.datasets import Sample

SCENE_SIZE = 192


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which model, which pictures, which recipes, and where the results go."""

    models: cli.Models = cli.Models(("clip_tiny",))
    labelled: cli.Labelled = cli.Labelled()
    images: tuple[str, ...] = ()
    """Photos or folders of them instead of a data set; they have no true labels."""
    classes: str = ""
    """With --images, the classes: "horse, grass, sky"; names of one class are joined with |."""
    recipe: tuple[str, ...] = ("clip", "maskclip", "sclip", "clearclip", "X_sum", "X_res", "X_attn")
    """Recipes by name, and X_sum, X_res or X_attn for a feature map of the last block."""
    first: int = 0
    """The first picture that is used, counted from 0."""
    text: cli.Text = cli.Text()
    running: cli.Running = cli.Running(limit=4)
    result: cli.Result = cli.Result(Path("results/maps.nc"))
    drawing: commands.Drawing = commands.Drawing()


def run(options: Options) -> xr.Dataset:
    """Label maps of every recipe, over all models."""
    from analysis.probes.label_maps import label_maps, merge, recipes_of

    recipes = recipes_of(options.recipe)
    loaders = cli.loaders(options.models, options.running)
    samples, classes = sources(options)
    parts = [
        label_maps(
            load(),
            samples,
            classes,
            recipes,
            options.running.batch_size,
            cli.text_cache(options.text),
            cli.templates(options.text),
            cli.text_embeddings(options.text),
        )
        for load in loaders
    ]
    return merge(parts, "" if options.images else readable(options.labelled.dataset[0].partition(":")[0]))


def sources(options: Options) -> tuple[list[Sample], list[str] | str]:
    """The pictures, with their true labels if they have any, and the classes."""
    from analysis.probes.images import pictures
    from analysis.probes.samples import labelled, photographed, usable
    from clearclip.datasets import DRAWN, load
    from clearclip.segmentation.text import class_names

    running, names = options.running, options.labelled.dataset
    if options.first < 0:
        raise UserError(f"first {options.first}: pictures are counted from 0.")
    if options.images:
        if options.labelled != cli.Labelled():
            raise UserError(
                "--images takes the place of a data set: leave out --dataset, --split, --names and --partial."
            )
        class_names(options.classes)
        photos = pictures(options.images)[options.first :]
        return usable(photographed(photos), running.limit, running.strict), options.classes
    if options.classes:
        raise UserError("--classes goes with --images; a data set has its own.")
    if len(names) != 1:
        raise UserError(f"data sets {', '.join(names)}: label maps are drawn of one at a time.")
    # scenes are the same at every size, and drawn finer for the eye than for statistics
    scenes = names[0] in DRAWN
    dataset = load(names[0], split="test", size=SCENE_SIZE) if scenes else cli.datasets(options.labelled)[0]
    return usable(labelled(dataset, options.first), running.limit, running.strict), list(dataset.classes)


def main() -> None:
    """The command `python -m analysis.maps`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.probes import label_maps
    from analysis.readings import maps

    commands.present(
        run,
        options,
        read=label_maps.read,
        report=label_maps.report,
        reading=maps.label_maps,
        rows=label_maps.tidy,
        draw=plots.label_maps,
    )


if __name__ == "__main__":
    cli.run(main)
