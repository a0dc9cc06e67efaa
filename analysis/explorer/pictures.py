"""Pictures to look at: examples that come with the package, and what visitors bring, as squares of one size."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from analysis.probes.images import NAMED
from clearclip.datasets.drawn.scenes import Scenes
from clearclip.models.backbone import Backbone
from clearclip.pictures import read_image

MOST_PIXELS = 40_000_000  # of an upload: a telephone's photograph, 120 MB once it is decoded
SIDE = 512  # pixels of a picture that waits to be looked at


class Example(NamedTuple):
    """A picture that comes with the package: how it is made, names of what is on it, and a point on one of them."""

    load: Callable[[], Image.Image]
    classes: str
    at: tuple[float, float] = (0.5, 0.5)  # shares of height and width


def _drawn(kind: str, index: int, at: tuple[float, float]) -> Example:
    scenes = Scenes("test", index + 1, SIDE, kind=kind)
    scene = scenes.scene(index)
    names = ", ".join([*(thing.name for thing in scene.things), *scene.stuff])
    return Example(lambda: scenes[index].image, names, at)


def _photograph(name: str, classes: str, at: tuple[float, float] = (0.5, 0.5)) -> Example:
    (photo,) = [picture for picture in NAMED["photographs"]() if picture.name == name]
    return Example(photo.load, classes, at)


@cache
def examples() -> dict[str, Example]:
    """Examples by name: drawn scenes, which the shipped models know, and scikit-image's photographs, which they do not."""
    return {
        "drawn cat": _drawn("scene", 34, (0.28, 0.47)),  # chosen, as the next one, because the recipes differ most here
        "drawn cat and apple": _drawn("few", 59, (0.6, 0.4)),
        "drawn cat and house": _drawn("large", 25, (0.45, 0.6)),
        "drawn cat and zebra": _drawn("few", 1, (0.2, 0.72)),
        "photograph of a cat": _photograph("chelsea.png", "cat, wall", (0.3, 0.64)),
        "photograph of an astronaut": _photograph("astronaut.png", "woman, space suit, flag, space shuttle"),
        "photograph of coffee": _photograph("coffee.png", "coffee, cup, spoon, table"),
        "photograph of a rocket": _photograph("rocket.jpg", "rocket, tower, sky"),
    }


def side(model: Backbone) -> int:
    """The side at which a model looks unless another is chosen: 224 pixels, or twice its own for smaller ones.

    >>> import clearclip
    >>> side(clearclip.load("clip_tiny", random=True, device="cpu"))
    128
    """
    return min(224 // model.patch_size * model.patch_size, 2 * model.image_size)


def square(picture: Image.Image, side: int) -> Image.Image:
    """The middle square of a picture, resized.

    >>> square(Image.new("RGB", (300, 200)), 64).size
    (64, 64)
    """
    return ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)


def uploaded(file: Path) -> Image.Image:
    """A visitor's file as a square that is kept in memory; the file is deleted.

    Raises:
        BadImage: it is not a picture that can be read, or larger than the limit in force.
    """
    try:
        return square(read_image(file), SIDE)
    finally:
        file.unlink(missing_ok=True)
