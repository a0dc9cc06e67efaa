"""Segment photos into the classes you name.

    python -m clearclip.segment photo.jpg --classes "horse, grass, sky" --model clip_vitb16 --recipe clearclip

Several names of one class are written horse|pony. --compare draws recipes side by side (paper Fig. 7), --feature draws
X_res, X_attn and X_sum (paper Figs. 1 and 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from clearclip import cli
from clearclip.errors import UserError

if TYPE_CHECKING:
    from clearclip.methods.recipes import Recipe
    from clearclip.pixels import Picture
    from clearclip.segmentation.result import Segmentation
    from clearclip.segmentation.segmenter import Segmenter

SCENES, SCENE_SIZE = 3, 192


@dataclass(frozen=True)
class Asked:
    """What is done with the pictures."""

    classes: str = ""
    """The classes, with commas between them: "horse, grass, sky"; names of one class are joined with |."""
    recipe: str = "clearclip"
    """The method: clip, maskclip, sclip, clip_surgery, gem, clearclip, naclip, segearth_ov, resclip, proxyclip, …"""
    compare: tuple[str, ...] = ()
    """Several recipes, drawn side by side; all from one pass through the model."""
    feature: tuple[Literal["X_res", "X_attn", "X_sum"], ...] = ()
    """Feature maps instead of a recipe, drawn side by side."""
    layer: int | None = None
    """With --feature: of this block, counted from 1, instead of the last."""
    proxy: str | None = None
    """A second model for proxyclip, such as dino_vitb8."""
    background: bool = False
    """Add a class background; with --threshold it takes every pixel whose best score is below."""
    threshold: str = "0"
    """A score between 0 and 1, or auto (Otsu's threshold of each picture, explained in the output)."""
    short_side: int | None = None
    """Pictures are resized to this short side, which is also the window; by default the protocol's 448."""


@dataclass(frozen=True)
class Options:
    """Which pictures, which classes, which model and recipe, and where the results go."""

    images: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Photos, or folders of them (searched recursively); a few drawn scenes if nothing is named."""
    asked: Asked = Asked()
    models: cli.Models = cli.Models()
    text: cli.Text = cli.Text()
    running: cli.Running = cli.Running()
    output: Path = Path("results/segment")
    """The folder for the results: <photo>.png (labels), .npz (labels and scores), _overlay.png or _compare.png."""


def main() -> None:
    """The command `python -m clearclip.segment`."""
    options = cli.parse(Options, __doc__)
    from tqdm.auto import tqdm

    from clearclip.segmentation.files import batches, refuse_inside
    from clearclip.segmentation.text import class_names

    asked, running = options.asked, options.running
    if asked.compare and asked.feature:
        raise UserError("--compare and --feature exclude each other.")
    pictures, classes = sources(options)
    class_names(classes)
    refuse_inside(options.output, pictures.values())
    segmenter = prepared(options, classes)
    if segmenter.model.weights.random:
        print(f"{segmenter.model.name}: RANDOM WEIGHTS, the result says nothing about a trained model")
    skipped = 0
    with tqdm(total=len(pictures), unit="picture", disable=len(pictures) <= running.batch_size) as bar:
        for readable, broken in batches(pictures, running.batch_size):
            for name, by_recipe in zip(readable, segmenter.each(list(readable.values())), strict=True):
                deliver(segmenter, by_recipe, name, pictures[name], options.output)
            for error in broken:
                if running.strict:
                    raise UserError(f"{error} (refused because of strict)") from error
                print(f"skipped: {error}")
            skipped += len(broken)
            bar.update(len(readable) + len(broken))
    if skipped:
        print(f"skipped {skipped} pictures that could not be read")
    if skipped == len(pictures):
        raise UserError("not one picture could be used.")


def sources(options: Options) -> tuple[dict[str, Picture], str | list[str]]:
    """The pictures by the names of their results, and the classes; scenes, which the small model knows, by default."""
    from clearclip.datasets.drawn.scenes import Scenes
    from clearclip.segmentation.files import photos

    limit = options.running.limit
    if options.images:
        return dict(list(photos(options.images).items())[:limit]), options.asked.classes
    scenes = Scenes("test", SCENES if limit is None else limit, SCENE_SIZE)
    return {f"scene_{i}": scenes[i].image for i in range(len(scenes))}, options.asked.classes or scenes.classes


def prepared(options: Options, classes: str | list[str]) -> Segmenter:
    """The segmenter that was asked for; by default clip_vitb16 for photos and the shipped clip_tiny for drawn scenes."""
    from clearclip.models.load import load
    from clearclip.segmentation.segmenter import Segmenter
    from clearclip.segmentation.windows import Windows

    asked, running = options.asked, options.running
    model = options.models.model or ("clip_vitb16" if options.images else "clip_tiny",)
    if len(model) > 1:
        raise UserError(f"models {', '.join(model)}: pictures are segmented with one; compare recipes with --compare.")
    short = asked.short_side
    recipes, threshold = which(asked), level(asked.threshold)
    load_model, *others = cli.loaders(cli.Models(model, options.models.checkpoint, options.models.random), running)
    if others:
        raise UserError(f"{model[0]} is {len(others) + 1} models: pictures are segmented with one.")
    return Segmenter(
        load_model(),
        classes,
        recipes,
        asked.background,
        threshold,
        None if short is None else Windows(short, 2048 * short // 448, short, short // 2),
        cli.templates(options.text),
        cli.text_cache(options.text),
        load(asked.proxy, None, options.models.random, running.device, running.precision) if asked.proxy else None,
        running.batch_size,
    )


def which(asked: Asked) -> list[Recipe]:
    """The recipes that were asked for."""
    from clearclip.methods.recipes import feature_recipe, recipes

    return [feature_recipe(name, asked.layer) for name in asked.feature] or recipes(asked.compare or [asked.recipe])


def level(threshold: str) -> float | str:
    """The background threshold as a number, or "auto"."""
    try:
        return "auto" if threshold == "auto" else float(threshold)
    except ValueError as error:
        raise UserError(f'threshold {threshold!r}: a score between 0 and 1, or "auto".') from error


def deliver(
    segmenter: Segmenter, by_recipe: Mapping[str, Segmentation], name: str, picture: Picture, folder: Path
) -> None:
    """Print and write the results of one picture."""
    from clearclip.segmentation.result import side_by_side
    from clearclip.segmentation.style import save

    title = f"{name}{picture.suffix}" if isinstance(picture, Path) else name
    written = []
    for recipe, result in by_recipe.items():
        suffix = "_" + recipe.replace(" ", "_") if len(by_recipe) > 1 else ""
        written += result.save(folder, name + suffix)
        covered = sorted(result.shares.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{cls} {share:.0%}" for cls, share in covered if share >= 0.005)
        print(f"{title} [{recipe}]: {shares}")
        if segmenter.threshold:
            print(f"  background: {result.threshold}")
    if len(by_recipe) > 1:
        written.append(folder / f"{name}_compare.png")
        save(side_by_side([by_recipe]), written[-1])
    print("wrote " + ", ".join(map(str, written)))


if __name__ == "__main__":
    cli.run(main)
