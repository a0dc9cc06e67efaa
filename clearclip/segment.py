"""Segment photos into the classes you name.

    python -m clearclip.segment photo.jpg --classes "horse, grass, sky" --model clip_vitb16 --recipe clearclip

Several names of one class are written horse|pony. --compare draws recipes side by side (paper Fig. 7), --feature draws
X_res, X_attn and X_sum (paper Figs. 1 and 3).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from clearclip.cli import options, run
from clearclip.errors import UserError

if TYPE_CHECKING:
    from clearclip.segmenter import Segmenter
    from clearclip.vit import Backbone


@dataclass(frozen=True)
class SegmentOptions:
    """Which pictures, which classes, which model and recipe, and where the results go."""

    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Photos, or a folder of them (searched recursively)."""
    classes: str = ""
    """The classes, with commas between them: "horse, grass, sky"; names of one class are joined with |."""
    model: str = ""
    """A CLIP, such as clip_vitb16, or open_clip:<arch>/<tag>."""
    checkpoint: Path | None = None
    """Local weights (safetensors or weights-only .pt) instead of the hub's."""
    random: bool = False
    """Random weights, for a trial without any; every result says so."""
    recipe: str = "clearclip"
    """The method: clip, maskclip, sclip, clip_surgery, gem, clearclip, naclip, segearth_ov, resclip, proxyclip, ….."""
    compare: tuple[str, ...] = ()
    """Several recipes, drawn side by side; all from one pass through the model."""
    feature: tuple[Literal["X_res", "X_attn", "X_sum"], ...] = ()
    """Feature maps of the last block instead of a recipe, drawn side by side."""
    proxy: str | None = None
    """A second model for proxyclip, such as dino_vitb8."""
    background: bool = False
    """Add a class background; with --threshold it takes every pixel whose best score is below."""
    threshold: str = "0"
    """A score between 0 and 1, or auto (Otsu's threshold of each picture, explained in the output)."""
    prompts: Literal["imagenet", "simple", "photo"] = "imagenet"
    """The prompt templates: the 80 of ImageNet, 7 of them, or one."""
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
    if not chosen.images:
        raise UserError("name a photo or a folder.")
    if not chosen.model:
        raise UserError("name a CLIP with --model, such as clip_vitb16.")
    if chosen.compare and chosen.feature:
        raise UserError("--compare and --feature exclude each other.")
    from clearclip.pictures import find_images
    from clearclip.text import class_names

    class_names(chosen.classes)
    photos = {path: root for root in chosen.images for path in find_images(root)}
    segmenter = _segmenter(chosen)
    if segmenter.model.weights.random:
        print(f"{segmenter.model.name}: RANDOM WEIGHTS, the result says nothing about a trained model")
    skipped = 0
    for path, root in _progress(photos.items(), len(photos)):
        skipped += not _one(segmenter, path, Path(root), chosen)
    if skipped:
        print(f"skipped {skipped} pictures that could not be read")
    if skipped == len(photos):
        raise UserError("not one picture could be used.")


def _segmenter(chosen: SegmentOptions) -> "Segmenter":
    from clearclip.recipes import feature_recipe, recipes
    from clearclip.segmenter import Segmenter
    from clearclip.text import default_cache
    from clearclip.windows import Windows

    which = [feature_recipe(name) for name in chosen.feature] or recipes(chosen.compare or [chosen.recipe])
    threshold: float | str = "auto"
    if chosen.threshold != "auto":
        try:
            threshold = float(chosen.threshold)
        except ValueError as error:
            raise UserError(f'threshold {chosen.threshold!r}: a score between 0 and 1, or "auto".') from error
    windows = None
    if chosen.short_side is not None:
        windows = Windows(chosen.short_side, 2048 * chosen.short_side // 448, chosen.short_side, chosen.short_side // 2)
    model = _load(chosen, chosen.model, chosen.checkpoint)
    proxy = _load(chosen, chosen.proxy, None) if chosen.proxy else None
    return Segmenter(
        model,
        chosen.classes,
        which,
        chosen.background,
        threshold,
        windows,
        chosen.prompts,
        chosen.text_cache or default_cache(),
        proxy,
        chosen.batch_size,
    )


def _load(chosen: SegmentOptions, name: str, checkpoint: Path | None) -> "Backbone":
    from clearclip.backbones import load

    return load(name, checkpoint, chosen.random, chosen.device, chosen.precision)


def _one(segmenter: "Segmenter", path: Path, root: Path, chosen: SegmentOptions) -> bool:
    """Segment one photo and write its results; False if it cannot be read."""
    from clearclip.overlay import side_by_side
    from clearclip.pictures import BadImage
    from clearclip.style import save

    try:
        by_recipe = segmenter.each(path)[0]
    except BadImage as error:
        if chosen.strict:
            raise UserError(f"{error} (refused because of strict)") from error
        print(f"skipped: {error}")
        return False
    below = path.relative_to(root) if path != root else Path(path.name)
    name = below.with_suffix("").as_posix()
    written = []
    for recipe, result in by_recipe.items():
        several = len(by_recipe) > 1
        written += result.save(chosen.output, f"{name}_{recipe}" if several else name)
        covered = sorted(result.shares.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{cls} {share:.0%}" for cls, share in covered if share >= 0.005)
        print(f"{below.as_posix()} [{recipe}]: {shares}")
        if segmenter.threshold:
            print(f"  background: {result.threshold}")
    if len(by_recipe) > 1:
        written.append(chosen.output / f"{name}_compare.png")
        save(side_by_side([by_recipe]), written[-1])
    print("wrote " + ", ".join(map(str, written)))
    return True


def _progress(items: Iterable[tuple[Path, str]], total: int) -> "Iterable[tuple[Path, str]]":
    from tqdm.auto import tqdm

    return tqdm(items, total=total, unit="photo", disable=total < 2)


if __name__ == "__main__":
    run(main)
