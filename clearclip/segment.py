"""Segment photos into the classes you name.

    clearclip segment photo.jpg --classes "horse, grass, sky" --model clip_vitb16 --recipe clearclip

Several names of one class are written horse|pony. Several recipes are drawn side by side (paper Fig. 7), as --feature draws
X_res, X_attn and X_sum (paper Figs. 1 and 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from clearclip import cli, outputs
from clearclip.commands import about_shipped
from clearclip.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from clearclip.methods.recipes import Recipe
    from clearclip.models.backbone import Backbone
    from clearclip.pixels import Picture
    from clearclip.segmentation.result import Segmentation
    from clearclip.segmentation.segmenter import Segmenter

SCENES, SCENE_SIZE = 3, 192


@dataclass(frozen=True)
class Task:
    """What is done with the pictures."""

    classes: str = ""
    """The classes, with commas between them: "horse, grass, sky"; names of one class are joined with |."""
    recipe: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--compare",))] = ()
    """The method, by default clearclip: clip, maskclip, sclip, clip_surgery, gem, clearclip, naclip, segearth_ov, resclip,
    proxyclip, …, or one with knobs turned, as "clearclip alpha=2 affinity=kk". Several are drawn side by side, from one pass
    through the model."""
    feature: tuple[Literal["X_res", "X_attn", "X_sum"], ...] = ()
    """Feature maps instead of a recipe, drawn side by side."""
    layer: int | None = None
    """With --feature: of this block, counted from 1, instead of the last."""
    proxy: str | None = None
    """A second model for proxyclip and corrclip, such as dino_vitb8."""
    regions: Path | None = None
    """For corrclip: what belongs together in the photo, as a label image (index or colors; black or the smallest number is
    nothing), or a folder of them, named as the photos."""
    background: bool = False
    """Add a class background; with --threshold it takes every pixel whose best score is below."""
    contrast: str = ""
    """Words that compete with the classes, as "sky, ground", for when few classes are named: what they win becomes
    background."""
    floss: int = 0
    """Choose the prompt templates of each class by how sure predictions on the first so many pictures are (FLOSS); 0 for the
    same templates everywhere."""
    threshold: str = "0"
    """A score between 0 and 1, or auto (Otsu's threshold of each picture, explained in the output)."""
    short_side: Annotated[int | None, tyro.conf.arg(aliases=("--image-size",))] = None
    """Pictures are resized to this short side, which is also the window; by default the protocol's 448."""
    max_pixels: int | None = None
    """Read pictures of up to so many pixels, which take about 1 GB and 30 bytes per pixel; by default 89478485."""


@dataclass(frozen=True)
class Options:
    """Which pictures, which classes, which model and recipe, and where the results go."""

    images: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Photos, or folders of them (searched recursively); a few drawn scenes if nothing is named."""
    task: Task = Task()
    models: cli.Models = cli.Models()
    text: cli.Text = cli.Text()
    running: cli.Running = cli.Running()
    output: Path = Path("results/segment")
    """The folder for the results: <photo>.png (labels), .npz (labels and scores), _overlay.png or _compare.png; and
    shares.csv, the share of every picture that each class covers."""


def main() -> None:
    """The command `python -m clearclip.segment`."""
    options = cli.parse(Options, __doc__)
    import pandas as pd
    from tqdm.auto import tqdm

    from clearclip.pictures import pixel_limit
    from clearclip.runs.results import shipped_name
    from clearclip.segmentation.files import SHARES, batches, refuse_collisions
    from clearclip.segmentation.floss import choose_templates, with_experts
    from clearclip.segmentation.regions import regions_of
    from clearclip.segmentation.text import class_names

    task, running = options.task, options.running
    if task.recipe and task.feature:
        raise UserError(
            "--recipe and --feature exclude each other: a feature map is what the last block has without a recipe."
        )
    if task.layer is not None and not task.feature:
        raise UserError(f"--layer {task.layer} says of which block a feature map is, so it goes with --feature.")
    if task.floss < 0:
        raise UserError(f"--floss {task.floss}: templates are chosen on the first so many pictures, or on none.")
    if task.threshold != "0" and not (task.background or task.contrast):
        raise UserError(
            f"--threshold {task.threshold} turns pixels into background, so it goes with --background or --contrast."
        )
    pictures, truths, classes = sources(options)
    class_names(classes)
    refuse_collisions(options.output, pictures, [recipe.name for recipe in which(task)])
    table = options.output / SHARES
    outputs.refuse_unwritable(table)
    regions = regions_of(task.regions, list(pictures))
    segmenter = prepared(options, classes)
    if segmenter.model.weights.random:
        print(f"{segmenter.model.name}: RANDOM WEIGHTS, the result says nothing about a trained model")
    if name := shipped_name(segmenter.model.architecture, segmenter.model.weights.name):
        print(about_shipped(segmenter.model.name, name))
    if task.floss:
        segmenter = with_experts(segmenter, choose_templates(segmenter, first(pictures, task.floss)))
    skipped, shares = 0, []
    with (
        pixel_limit(task.max_pixels),
        tqdm(total=len(pictures), unit="picture", disable=len(pictures) <= running.batch_size) as bar,
    ):
        for readable, broken in batches(pictures, running.batch_size):
            results = segmenter.each(
                list(readable.values()),
                list(readable),
                [regions[name] for name in readable] if regions else None,
                [truths[name] for name in readable] if truths else None,
            )
            for name, by_recipe in zip(readable, results, strict=True):
                deliver(segmenter, by_recipe, name, pictures[name], options.output, truths.get(name))
                shares += [
                    {"picture": name, "recipe": recipe, "class": cls, "share": share}
                    for recipe, result in by_recipe.items()
                    for cls, share in result.shares.items()
                ]
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
    rows = pd.DataFrame(shares).assign(model=segmenter.model.name, random_weights=segmenter.model.weights.random)
    outputs.write(table, rows.to_csv(index=False))
    print(f"wrote {table}")


def first(pictures: Mapping[str, Picture], count: int) -> list[Image.Image]:
    """The first pictures, of those that can be read."""
    from clearclip.segmentation.files import batches

    some = dict(list(pictures.items())[:count])
    return [picture for readable, _ in batches(some, count) for picture in readable.values()]


def sources(options: Options) -> tuple[dict[str, Picture], dict[str, np.ndarray], str | list[str]]:
    """Pictures and true labels (H, W) by the names of the results, and the classes.

    By default they are drawn scenes, which the small model knows. Photos have no true labels, and neither have scenes where
    other classes are asked for.
    """
    from clearclip.datasets.drawn.scenes import Scenes
    from clearclip.segmentation.files import photos

    task, limit = options.task, options.running.limit
    if options.images:
        return dict(list(photos(options.images).items())[:limit]), {}, task.classes
    scenes = Scenes("test", SCENES if limit is None else limit, SCENE_SIZE)
    samples = {f"scene_{i}": scenes[i] for i in range(len(scenes))}
    truths = (
        {}
        if task.classes or task.background or task.contrast
        else {name: sample.label for name, sample in samples.items()}
    )
    return {name: sample.image for name, sample in samples.items()}, truths, task.classes or scenes.classes


def prepared(options: Options, classes: str | list[str]) -> Segmenter:
    """The segmenter that was asked for; by default clip_vitb16 for photos and the shipped clip_tiny for drawn scenes."""
    from clearclip.methods.windows import Windows
    from clearclip.models.load import load
    from clearclip.segmentation.segmenter import Segmenter

    task, running = options.task, options.running
    model = options.models.model or ("clip_vitb16" if options.images else "clip_tiny",)
    if len(model) > 1:
        raise UserError(
            f"models {', '.join(model)}: pictures are segmented with one; name several recipes to compare them."
        )
    short = task.short_side
    recipes, threshold = which(task), level(task.threshold)
    loaders = cli.loaders(replace(options.models, model=model), running)
    changing = bool(options.models.ablate or options.models.registers)
    if len(loaders) > 1 + changing:
        raise UserError(f"{model[0]} is {len(loaders) // (1 + changing)} models: pictures are segmented with one.")
    backbone = loaders[-1]()
    if changing:  # side by side, from the same model
        backbone, changed = compared(backbone, recipes)
        recipes += changed
    proxy = None
    if task.proxy:
        how = options.models.random, running.device, running.precision
        proxy = load(task.proxy, None, *how, positions=options.models.positions)
    return Segmenter(
        backbone,
        classes,
        recipes,
        task.background,
        threshold,
        None if short is None else Windows.of_side(short),
        cli.templates(options.text),
        cli.text_cache(options.text),
        proxy,
        running.batch_size,
        text=cli.text_embeddings(options.text),
        contrast=task.contrast,
    )


def compared(changed: Backbone, recipes: list[Recipe]) -> tuple[Backbone, list[Recipe]]:
    """A model with interventions → the model as it is, and the recipes in which they act."""
    from clearclip.interventions.view import ChangedBackbone
    from clearclip.methods.stages import Intervene

    assert isinstance(changed, ChangedBackbone)
    acting = tuple(Intervene(change) for change in changed.changes)
    label = changed.name.removeprefix(changed.of.name).strip()
    within = [recipe.variant(stages=(*recipe.stages, *acting), name=f"{recipe.name} {label}") for recipe in recipes]
    return changed.of, within


def which(task: Task) -> list[Recipe]:
    """The recipes that were asked for."""
    from clearclip.methods.recipes import feature_recipe, recipes

    return [feature_recipe(name, task.layer) for name in task.feature] or recipes(task.recipe or ("clearclip",))


def level(threshold: str) -> float | str:
    """The background threshold as a number, or "auto"."""
    try:
        return "auto" if threshold == "auto" else float(threshold)
    except ValueError as error:
        raise UserError(f'threshold {threshold!r}: a score between 0 and 1, or "auto".') from error


def deliver(
    segmenter: Segmenter,
    by_recipe: Mapping[str, Segmentation],
    name: str,
    picture: Picture,
    folder: Path,
    truth: np.ndarray | None = None,
) -> None:
    """Print and write the results of one picture; its true labels (H, W), if it has any, stand in the comparison."""
    from clearclip.segmentation.files import COMPARISON, stems
    from clearclip.segmentation.result import side_by_side
    from clearclip.segmentation.style import save

    title = f"{name}{picture.suffix}" if isinstance(picture, Path) else name
    written, names = [], stems(name, by_recipe)
    for recipe, result in by_recipe.items():
        written += result.save(folder, names[recipe])
        covered = sorted(result.shares.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{cls} {share:.0%}" for cls, share in covered if share >= 0.005)
        print(f"{title} [{recipe}]: {shares}")
        if segmenter.threshold:
            print(f"  background: {result.threshold}")
    if len(by_recipe) > 1:
        written.append(folder / (name + COMPARISON))
        save(side_by_side([by_recipe], None if truth is None else [truth]), written[-1])
    print("wrote " + ", ".join(map(str, written)))


if __name__ == "__main__":
    cli.run(main)
