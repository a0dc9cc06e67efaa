"""Who draws the horse? The score of every patch, taken apart into what each head, FFN and bias of the model adds to it.

    python -m analysis.attribution --model clip_vitb16 --images horse.jpg --texts "horse, grass" --recipe clip

The parts add up to the score exactly. A model without a text tower is asked with --prototypes DATASET for the classes of
labelled pictures, or with --channels for single channels of its features.
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

    from analysis.attribution.directions import Directions
    from analysis.probes.images import Picture
    from clearclip.methods.recipes import Recipe
    from clearclip.models.backbone import Backbone

TEXTS = "house, rocket, snow"  # which stand in the first drawn scene


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which models, which pictures, what they are asked for, and where the results go."""

    models: cli.Models = cli.Models(("clip_tiny",))
    pictures: commands.Pictures = commands.Pictures(("scenes",))
    texts: str = ""
    """Class names, as "horse, grass"; for the small CLIP that comes with the package, by default, "house, rocket, snow"."""
    prototypes: str = ""
    """Labelled pictures, as for --dataset of clearclip evaluate, whose classes are asked for by their mean features."""
    channels: tuple[int, ...] = ()
    """Single channels of the features, counted from 0."""
    recipe: str = "clip"
    """What the last block does: a recipe without stages around it, such as clip, clearclip, maskclip."""
    sources: bool = False
    """Also tell from which tokens each head took what it adds to the patch with the highest score, and draw it."""
    running: cli.Running = cli.Running(limit=1)
    result: cli.Result = cli.Result(Path("results/attribution.nc"))
    drawing: commands.Drawing = commands.Drawing()


def run(options: Options) -> xr.Dataset:
    """Maps of what every component adds."""
    from analysis.attribution.maps import attribution_maps
    from clearclip.methods.recipes import recipe

    which, size = recipe(options.recipe), options.pictures.image_size

    def measure(model: Backbone, pictures: list[Picture]) -> xr.Dataset:
        asked = _directions(options, model)
        if options.sources:
            print(_memory(model, asked, which, size))
        return attribution_maps(model, pictures, asked, which, image_size=size, from_tokens=options.sources)

    return commands.each_model(options, measure)


def _memory(model: Backbone, asked: Directions, recipe: Recipe, image_size: int | None) -> str:
    """What the sources of one picture take, at most: one patch for each direction."""
    from analysis.attribution.readout import Readout
    from analysis.attribution.sources import memory

    side = model.image_size if image_size is None else image_size
    needed = memory(Readout(model, asked.vectors), recipe, len(asked.names), (side, side))
    return f"{model.name}: the sources of one picture take up to {needed / 2**20:.1f} MiB"


def _directions(options: Options, model: Backbone) -> Directions:
    """What a model is asked for."""
    from analysis.attribution import directions
    from clearclip.datasets import parse
    from clearclip.errors import UserError

    asked = [name for name in ("texts", "prototypes", "channels") if getattr(options, name)]
    if len(asked) > 1 or not (asked or options.models.model == Options().models.model):
        raise UserError(
            'scores of what? Give one of --texts "horse, grass", --prototypes DATASET and --channels, and no two of them.'
        )
    if options.channels:
        return directions.of_channels(model, options.channels)
    if options.prototypes:
        data = parse(options.prototypes)
        return directions.of_prototypes(model, data, [data[i] for i in range(len(data))])
    return directions.of_texts(model, options.texts or TEXTS)


def main() -> None:
    """The command `python -m analysis.attribution`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.attribution import maps
    from analysis.probes import store
    from analysis.readings.maps import attribution

    commands.present(
        run,
        options,
        read=partial(store.read_maps, "attribution"),
        report=maps.report,
        reading=attribution,
        rows=maps.tidy,
        draw={"": plots.attribution, "sources": plots.sources} if options.sources else plots.attribution,
    )


if __name__ == "__main__":
    cli.run(main)
