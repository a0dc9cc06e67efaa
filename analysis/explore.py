"""What does the model see? Click on a picture and look inside every block, in the browser.

    python -m analysis.explore --model clip_vitb16 dino_vitb16

The page needs the extra `app`. With --export nothing is served: one page of HTML is written, which works without a server:

    python -m analysis.explore --model dinov2_vits14 --images photo.jpg --at 0.4 0.6 --export page.html
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clearclip import cli, outputs
from clearclip.errors import UserError
from clearclip.models.names import SHIPPED

if TYPE_CHECKING:
    from analysis.explorer.pictures import Example
    from analysis.explorer.shelf import Shelf
    from clearclip.models.backbone import Backbone


@dataclass(frozen=True)
class Pictures:
    """Which pictures."""

    images: tuple[str, ...] = ()
    """Pictures to begin with, as folders, files, photographs (scikit-image's) or scenes (drawn); with --export the first
    of them is the page's. Without any, the page offers drawn scenes and photographs."""
    image_size: int | None = None
    """Side in pixels at which the models look; by default 224, or twice the weights' own for smaller ones."""


@dataclass(frozen=True)
class Serving:
    """Where the page is shown."""

    host: str = "127.0.0.1"
    """The address that is listened on; 0.0.0.0 shows the page to everybody who can reach this machine."""
    port: int | None = None
    """By default the first free one from 7860 on."""
    no_browser: bool = False
    """Do not open the page in the browser."""
    these_only: bool = False
    """Visitors choose among the models that are named here; otherwise they may write any other name, and its weights are
    fetched."""


@dataclass(frozen=True)
class Page:
    """With --export: the page that is written."""

    export: Path | None = None
    """Write one page of HTML about one picture instead, at most 5 MB, with one or two models in it."""
    at: tuple[float, float] | None = None
    """The point that asks at first: shares of the height and of the width, 0 0 at the upper left."""
    layer: int | None = None
    """The layer that is shown first; by default the last."""
    classes: str = ""
    """Class names for models with a text tower, as "cat, grass": label maps of the recipes stand in the page, too."""
    recipe: tuple[str, ...] = ("clip", "maskclip", "sclip", "clearclip")
    """The recipes that are asked."""
    source: str = ""
    """Where the picture comes from, as the page shall say it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which models, which pictures, and where the page goes."""

    models: cli.Models = cli.Models(SHIPPED)
    pictures: Pictures = Pictures()
    running: cli.Running = cli.Running(limit=8)
    serving: Serving = Serving()
    page: Page = Page()


def run(options: Options) -> Path | None:
    """Write the page that was asked for, or show one until it is stopped; returns the file that was written."""
    if options.page.export is not None:
        return export(options, options.page.export)
    if options.page != Page():
        raise UserError(
            "--at, --layer, --classes, --recipe and --source say what is in a written page: add --export FILE."
        )
    serve(options)
    return None


def serve(options: Options) -> None:
    """Show the page; what visitors bring and take lies in a temporary folder, which goes when the page does."""
    with tempfile.TemporaryDirectory(prefix="clearclip-explore-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}  # gradio reads them
        try:
            from analysis.explorer import page
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise UserError(
                'the page needs gradio: python -m pip install "clearclip-analysis[app]". Without it, --export FILE writes a '
                "page that needs no server."
            ) from error
        from analysis.explorer.pictures import MOST_PIXELS, examples
        from clearclip.models.load import load
        from clearclip.pictures import pixel_limit

        running, serving = options.running, options.serving
        others = partial(load, device=running.device, precision=running.precision, positions=options.models.positions)
        mine = own_pictures(options)
        usual = "drawn cat" if options.models.model == SHIPPED else "photograph of a cat"
        with pixel_limit(MOST_PIXELS):
            blocks = page.build(
                shelf(options, Path(folder), None if serving.these_only else others),
                mine | examples(),
                next(iter(mine), usual),
            )
            page.serve(blocks, serving.host, serving.port, not serving.no_browser)


def export(options: Options, file: Path) -> Path:
    """Write a page about one picture."""
    from analysis.explorer import segments, twin
    from analysis.explorer.pictures import examples

    outputs.refuse_unwritable(file)
    if file.suffix not in (".html", ".htm"):
        raise UserError(f"{file}: the page is written as HTML, so name a .html file.")
    asked = options.page
    if asked.at is not None and not all(0 <= share < 1 for share in asked.at):
        raise UserError(f"--at {asked.at}: the shares of height and width lie in [0, 1), 0.5 0.5 is the middle.")
    with tempfile.TemporaryDirectory(prefix="clearclip-explore-") as folder:
        models = shelf(options, Path(folder))
        if len(models.loaders) > 2:
            raise UserError(f"{len(models.loaders)} models: a page holds one or two.")
        usual = "drawn cat" if options.models.model == SHIPPED else "photograph of a cat"
        name, example = next(iter((own_pictures(options) or {usual: examples()[usual]}).items()))
        seen = [models.look(label, example.load()) for label in models.loaders]
        deepest = max(each.model.depth for each in seen)
        if asked.layer is not None and not 1 <= asked.layer <= deepest:
            raise UserError(f"--layer {asked.layer}: there are layers 1 … {deepest}.")
        question = segments.Question(asked.classes or example.classes, asked.recipe)
        texts = [each for each in seen if each.model.has_text]
        if asked.classes and not texts:
            raise UserError(f"--classes {asked.classes!r}: none of these models has a text tower.")
        results = {each.model.name: segments.segment(models, each, question) for each in texts if question.classes}
        content = twin.html(
            seen, asked.at or example.at, asked.layer, results, source=asked.source or f"Picture: {name}."
        )
    outputs.write(file, content)
    return file


def shelf(options: Options, folder: Path, others: Callable[[str], Backbone] | None = None) -> Shelf:
    """The models that were named."""
    from analysis.explorer.shelf import Shelf
    from clearclip.models.named import all_named

    models = options.models
    labels = [model.label for model in all_named(models.model, models.checkpoint)]
    loaders = dict(zip(labels, cli.loaders(models, options.running), strict=True))
    return Shelf(loaders, folder / "texts", options.pictures.image_size, others)


def own_pictures(options: Options) -> dict[str, Example]:
    """The pictures that were named, by their names."""
    from analysis.explorer.pictures import Example
    from analysis.probes.images import pictures

    if not options.pictures.images:
        return {}
    return {
        picture.name: Example(picture.read, "")
        for picture in pictures(list(options.pictures.images), options.running.limit)
    }


def main() -> None:
    """The command `python -m analysis.explore`."""
    written = run(cli.parse(Options, __doc__))
    if written is not None:
        print(f"wrote {written} ({written.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    cli.run(main)
