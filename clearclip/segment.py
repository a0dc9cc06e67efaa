"""Segment photos into the classes you name.

    python -m clearclip.segment photo.jpg --classes "horse, grass, sky" --model clip_vitb16 --recipe clearclip

Several names of one class are written horse|pony. --compare draws recipes side by side (paper Fig. 7), --feature draws
X_res, X_attn and X_sum (paper Figs. 1 and 3).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from clearclip.cli import options, run
from clearclip.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from clearclip.models.backbone import Backbone
    from clearclip.pictures import BadImage
    from clearclip.segmentation.result import Segmentation
    from clearclip.segmentation.segmenter import Picture, Segmenter

    Classes = str | Sequence[str]

SCENES, SCENE_SIZE = 3, 192


@dataclass(frozen=True)
class SegmentOptions:
    """Which pictures, which classes, which model and recipe, and where the results go."""

    images: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Photos, or folders of them (searched recursively); a few drawn scenes if nothing is named."""
    classes: str = ""
    """The classes, with commas between them: "horse, grass, sky"; names of one class are joined with |."""
    model: str | None = None
    """A CLIP, such as clip_vitb16, or open_clip:<arch>/<tag>; by default clip_vitb16 for photos, and for drawn scenes
    clip_tiny, which comes with the package and knows nothing else."""
    checkpoint: Path | None = None
    """Local weights (safetensors or weights-only .pt) instead of the hub's."""
    random: bool = False
    """Random weights, for a trial without any; every result says so."""
    recipe: str = "clearclip"
    """The method: clip, maskclip, sclip, clip_surgery, gem, clearclip, naclip, segearth_ov, resclip, proxyclip, ….."""
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
    prompts: str = "imagenet"
    """The prompt templates: imagenet (its 80), simple (7 of them), photo (one), or a text file with one a line, {} in each."""
    short_side: int | None = None
    """Pictures are resized to this short side, which is also the window; by default the protocol's 448."""
    device: str | None = None
    """cpu, cuda, mps, …; by default the accelerator if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32, or autocast to bf16 or fp16."""
    batch_size: int = 8
    """Windows in one forward pass."""
    output: Path = Path("results/segment")
    """The folder for the results: <photo>.png (labels), .npz (labels and scores), _overlay.png or _compare.png."""
    text_cache: Path | None = None
    """Where text embeddings are kept; by default clearclip/text in the user's cache folder."""
    strict: bool = False
    """Stop at the first picture that cannot be read, instead of naming, counting and skipping it."""


def main() -> None:
    """The command `python -m clearclip.segment`."""
    chosen = options(SegmentOptions, __doc__ or "")
    from clearclip.segmentation.text import class_names

    if chosen.compare and chosen.feature:
        raise UserError("--compare and --feature exclude each other.")
    if not chosen.images:
        pictures, classes = _scenes(chosen.classes)
    else:
        pictures, classes = _photos(chosen.images), chosen.classes
    class_names(classes)
    for picture in pictures.values():
        if isinstance(picture, Path) and chosen.output.resolve() in picture.resolve().parents:
            raise UserError(
                f"{picture} lies in {chosen.output}, where the results go and could replace it: name another --output."
            )
    segmenter = _segmenter(chosen, classes)
    if segmenter.model.weights.random:
        print(f"{segmenter.model.name}: RANDOM WEIGHTS, the result says nothing about a trained model")
    skipped = 0
    for part in _progress(_parts(list(pictures.items()), chosen.batch_size)):
        readable, broken = _read(part)
        for name, by_recipe in zip(readable, segmenter.each(list(readable.values())), strict=True):
            _deliver(segmenter, by_recipe, name, pictures[name], chosen)
        for error in broken:
            if chosen.strict:
                raise UserError(f"{error} (refused because of strict)") from error
            print(f"skipped: {error}")
        skipped += len(broken)
    if skipped:
        print(f"skipped {skipped} pictures that could not be read")
    if skipped == len(pictures):
        raise UserError("not one picture could be used.")


def _scenes(classes: str) -> "tuple[dict[str, Picture], Classes]":
    """The first drawn test scenes, what the shipped model knows, and their classes unless others are named."""
    from clearclip.datasets.drawn.scenes import Scenes

    scenes = Scenes("test", SCENES, SCENE_SIZE)
    return {f"scene_{i}": scenes[i].image for i in range(SCENES)}, classes or scenes.classes


def _photos(images: tuple[str, ...]) -> "dict[str, Picture]":
    """Photos by what their results are called."""
    from clearclip.pictures import find_images

    photos = {path: root for root in images for path in find_images(root)}
    return {name: path for path, name in _names(photos).items()}


def _names(photos: dict[Path, str]) -> dict[Path, str]:
    """What each photo's results are called: its path below its folder, with a number where another has that name."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path, root in photos.items():
        below = path.relative_to(root) if path != Path(root) else Path(path.name)
        stem = name = below.with_suffix("").as_posix()
        count = 1
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        taken.add(name)
        names[path] = name
    return names


def _segmenter(chosen: SegmentOptions, classes: "Classes") -> "Segmenter":
    from clearclip.methods.recipes import feature_recipe, recipes
    from clearclip.segmentation.segmenter import Segmenter
    from clearclip.segmentation.text import default_cache
    from clearclip.segmentation.windows import Windows

    which = [feature_recipe(name, chosen.layer) for name in chosen.feature] or recipes(
        chosen.compare or [chosen.recipe]
    )
    threshold: float | str = "auto"
    if chosen.threshold != "auto":
        try:
            threshold = float(chosen.threshold)
        except ValueError as error:
            raise UserError(f'threshold {chosen.threshold!r}: a score between 0 and 1, or "auto".') from error
    windows = None
    if chosen.short_side is not None:
        windows = Windows(chosen.short_side, 2048 * chosen.short_side // 448, chosen.short_side, chosen.short_side // 2)
    model = _load(chosen, chosen.model or ("clip_vitb16" if chosen.images else "clip_tiny"), chosen.checkpoint)
    proxy = _load(chosen, chosen.proxy, None) if chosen.proxy else None
    return Segmenter(
        model,
        classes,
        which,
        chosen.background,
        threshold,
        windows,
        _prompts(chosen.prompts),
        chosen.text_cache or default_cache(),
        proxy,
        chosen.batch_size,
    )


def _prompts(which: str) -> str | list[str]:
    """The name of a set of templates, or the lines of a file."""
    path = Path(which)
    return [line for line in path.read_text().splitlines() if line.strip()] if path.is_file() else which


def _load(chosen: SegmentOptions, name: str, checkpoint: Path | None) -> "Backbone":
    from clearclip.models.load import load

    return load(name, checkpoint, chosen.random, chosen.device, chosen.precision)


def _read(part: "list[tuple[str, Picture]]") -> "tuple[dict[str, Image], list[BadImage]]":
    """The pictures that can be read, by name, and why the others cannot."""
    from clearclip.pictures import BadImage
    from clearclip.segmentation.segmenter import as_picture

    readable, broken = {}, []
    for name, picture in part:
        try:
            readable[name] = as_picture(picture)
        except BadImage as error:
            broken.append(error)
    return readable, broken


def _deliver(
    segmenter: "Segmenter", by_recipe: "dict[str, Segmentation]", name: str, picture: "Picture", chosen: SegmentOptions
) -> None:
    """Print and write the results of one picture."""
    from clearclip.segmentation.result import side_by_side
    from clearclip.segmentation.style import save

    shown = f"{name}{picture.suffix}" if isinstance(picture, Path) else name
    written = []
    for recipe, result in by_recipe.items():
        suffix = "_" + recipe.replace(" ", "_") if len(by_recipe) > 1 else ""
        written += result.save(chosen.output, name + suffix)
        covered = sorted(result.shares.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{cls} {share:.0%}" for cls, share in covered if share >= 0.005)
        print(f"{shown} [{recipe}]: {shares}")
        if segmenter.threshold:
            print(f"  background: {result.threshold}")
    if len(by_recipe) > 1:
        written.append(chosen.output / f"{name}_compare.png")
        save(side_by_side([by_recipe]), written[-1])
    print("wrote " + ", ".join(map(str, written)))


def _parts(items: "list[tuple[str, Picture]]", size: int) -> "list[list[tuple[str, Picture]]]":
    """A few pictures at a time, so that their windows share forward passes."""
    return [items[i : i + max(1, size)] for i in range(0, len(items), max(1, size))]


def _progress(parts: "list[list[tuple[str, Picture]]]") -> "Iterable[list[tuple[str, Picture]]]":
    from tqdm.auto import tqdm

    return tqdm(parts, unit="batch", disable=len(parts) < 2)


if __name__ == "__main__":
    run(main)
