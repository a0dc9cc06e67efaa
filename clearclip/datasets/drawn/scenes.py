"""Drawn scenes: things on textured grounds, with the exact class of every pixel and captions, made from a seed."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch.utils.data import Dataset

from clearclip.datasets.base import Sample
from clearclip.datasets.drawn.captions import Caption, caption
from clearclip.datasets.drawn.textures import STUFF, TEXTURES, WALLS, axes
from clearclip.datasets.drawn.things import COLOURS, KINDS, PAINT, THINGS
from clearclip.errors import UserError

Split = Literal["train", "validation", "test"]
Stuff = Literal["named", "background", "ignored"]


class Content(NamedTuple):
    """How many things a picture holds, and how large they are: radii from and to, in picture widths."""

    shares: tuple[float, ...]  # of pictures with 0, 1, 2, … things
    alone: tuple[float, float]
    several: tuple[float, float]  # two or three
    crowded: tuple[float, float]  # four or more


CONTENTS = {  # new ones come last: the place in this order is part of every scene's random stream
    "scene": Content((0.06, 0.16, 0.32, 0.28, 0.18), (0.22, 0.42), (0.15, 0.28), (0.15, 0.22)),
    "single": Content((0, 1), (0.22, 0.42), (0.22, 0.42), (0.22, 0.42)),
    "few": Content((0, 0.34, 0.33, 0.33), (0.18, 0.38), (0.18, 0.38), (0.18, 0.38)),
    "many": Content((0, 0, 0.2, 0.2, 0.2, 0.2, 0.2), (0.12, 0.26), (0.12, 0.26), (0.12, 0.2)),
    "large": Content((0, 0.1, 0.3, 0.3, 0.3), (0.2, 0.4), (0.18, 0.38), (0.18, 0.3)),
    "close": Content((0, 0.4, 0.4, 0.2), (0.3, 0.55), (0.26, 0.45), (0.26, 0.45)),
}

CLASSES = (*THINGS, *STUFF)
CLASSES_WITH_BACKGROUND = ("background", *THINGS)
VARIANTS: dict[Stuff, tuple[str, tuple[str, ...]]] = {  # what becomes of stuff → name and classes of the data set
    "named": ("scenes", CLASSES),
    "background": ("scenes_background", CLASSES_WITH_BACKGROUND),
    "ignored": ("scenes_things", THINGS),
}
# A scene's random stream is seeded by (seed, one number of its split's range), so splits share no stream for any seed.
SEEDS: dict[str, range] = {
    "train": range(0, 10**9),
    "validation": range(10**9, 2 * 10**9),
    "test": range(2 * 10**9, 3 * 10**9),
}


@dataclass(frozen=True)
class Thing:
    """One thing of a scene; positions and radius in picture widths, y downwards, tilt in degrees."""

    name: str
    colour: str  # a name in COLOURS, or "" where the thing has no colour to speak of
    x: float
    y: float
    radius: float
    tilt: float
    mirrored: bool
    tint: tuple[float, float, float]  # factors on red, green, blue
    seed: int  # of the details inside


@dataclass(frozen=True)
class Scene:
    """Everything that determines a picture, in picture widths, so that it can be drawn at any size."""

    things: tuple[Thing, ...]  # from back to front
    stuff: tuple[str, ...]  # the ground, then the wall behind it if there is a horizon
    horizon: float  # the ground's upper edge, 0 if it fills the picture
    brightness: float
    slope: tuple[float, float]  # of the light, down and across
    noise: float  # standard deviation of the camera's noise, in grey levels
    seed: int  # of the textures and the noise

    @property
    def nouns(self) -> list[tuple[str, str]]:
        """Name and colour of each thing."""
        return [(thing.name, thing.colour) for thing in self.things]


def compose(rng: np.random.Generator, kind: str = "scene") -> Scene:
    """A random scene of one of the `CONTENTS`, no two things of the same name."""
    content = CONTENTS[kind]
    horizon = float(rng.uniform(0.2, 0.55)) if rng.random() < 0.45 else 0.0
    wall = str(rng.choice(WALLS))
    ground = str(rng.choice([name for name in STUFF if not horizon or name not in ("sky", wall)]))
    count = 1 if kind == "single" else int(rng.choice(len(content.shares), p=content.shares))

    things: list[Thing] = []
    names = iter(rng.permutation(THINGS))
    for _ in range(40):  # attempts; a crowded picture ends up with fewer things
        if len(things) == count:
            break
        sizes = content.alone if count == 1 else content.several if count < 4 else content.crowded
        radius = float(rng.uniform(*sizes))
        x, y = (float(v) for v in rng.uniform(radius * 0.85, 1 - radius * 0.85, 2))
        if all(np.hypot(x - other.x, y - other.y) > 0.72 * (radius + other.radius) for other in things):
            name = str(next(names))
            spec = KINDS[name]
            things.append(Thing(
                name, str(rng.choice(spec.colours)) if spec.colours else "", x, y, radius,
                tilt=float(rng.uniform(-spec.tilt, spec.tilt)), mirrored=bool(rng.random() < 0.5),
                tint=tuple(rng.uniform(0.86, 1.14, 3).tolist()), seed=int(rng.integers(2**32)),
            ))  # fmt: skip
    return Scene(
        things=tuple(sorted(things, key=lambda thing: thing.y)),
        stuff=(ground, wall) if horizon else (ground,),
        horizon=horizon,
        brightness=float(rng.uniform(0.72, 1.15)),
        slope=tuple(rng.uniform(-0.25, 0.25, 2).tolist()),
        noise=float(rng.uniform(0, 8)),
        seed=int(rng.integers(2**32)),
    )


def draw(scene: Scene, size: int) -> tuple[Image.Image, NDArray[np.uint8]]:
    """The picture (RGB, size by size) of a scene and its label map (size, size), an index into `CLASSES` per pixel.

    Outlines are smoothed by drawing larger and averaging; a pixel's label is the class at its centre.

    >>> image, label = draw(compose(np.random.default_rng(0)), 32)
    >>> image.size, label.shape
    ((32, 32), (32, 32))
    """
    fine = 3  # odd, so that a fine pixel lies on each pixel's centre
    side = size * fine
    rng = np.random.default_rng(scene.seed)
    edge = round(scene.horizon * side)
    picture, label = np.empty((side, side, 3), np.float32), np.empty((side, side), np.uint8)
    for name, rows in zip(scene.stuff, (slice(edge, None), slice(0, edge)), strict=False):
        picture[rows] = TEXTURES[name](rng, side)[rows]
        label[rows] = CLASSES.index(name)

    canvas = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    labels = Image.fromarray(label)
    for thing in scene.things:
        paint_thing(thing, ImageDraw.Draw(canvas), ImageDraw.Draw(labels), side)

    y, x = axes(size)
    light = scene.brightness * (1 + scene.slope[0] * (y - 0.5) + scene.slope[1] * (x - 0.5))
    lit = np.asarray(canvas.reduce(fine), np.float32) * light[..., None]
    lit += rng.normal(0, scene.noise, (size, size, 3))
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8)), np.asarray(labels)[
        fine // 2 :: fine, fine // 2 :: fine
    ].copy()


def paint_thing(thing: Thing, canvas: ImageDraw.ImageDraw, labels: ImageDraw.ImageDraw, side: int) -> None:
    """Draw one thing on the picture and, with the same polygons, on the label map."""
    cos, sin = np.cos(np.radians(thing.tilt)), np.sin(np.radians(thing.tilt))
    turn = np.array([(cos, sin), (-sin, cos)]) * (thing.radius * side)  # points are rows
    if thing.mirrored:
        turn = np.diag((-1.0, 1.0)) @ turn
    width = max(1, round(0.06 * thing.radius * side))
    for part in KINDS[thing.name].parts(np.random.default_rng(thing.seed)):
        points = (part.points @ turn + (thing.x * side, thing.y * side)).ravel().tolist()
        base = COLOURS[thing.colour] if part.paint == "main" else PAINT[part.paint]
        colour = np.clip(np.multiply(base, thing.tint) * part.light, 0, 255)
        for pen, inside, outline in (
            (canvas, tuple(colour.astype(int).tolist()), tuple((colour * 0.45).astype(int).tolist())),
            (labels, CLASSES.index(thing.name), CLASSES.index(thing.name)),
        ):
            pen.polygon(points, fill=inside)
            pen.line(points + points[:2], fill=outline, width=width)


class Scenes(Dataset[Sample]):
    """Drawn scenes with exact label maps, as a sequence of samples made on demand.

    Stuff is ``named`` (every pixel is a thing or a kind of stuff), all of it is ``background`` (class 0), or it is
    ``ignored`` (255; the classes are the things). ``kind`` says what is in a picture, see `CONTENTS`; "single" is one
    large thing. Scene i is the same at every ``size``.

    >>> scenes = Scenes("test", count=3)
    >>> len(scenes), scenes[0].image.size, scenes[0].label.shape, len(scenes.classes)
    (3, (64, 64), (64, 64), 26)
    >>> len(Scenes("test", stuff="background").classes), len(Scenes("test", stuff="ignored").classes)
    (19, 18)
    """

    ignore_index = 255

    def __init__(
        self, split: Split = "test", count: int = 200, size: int = 64, stuff: Stuff = "named", seed: int = 0,
        kind: str = "scene",
    ) -> None:  # fmt: skip
        if split not in SEEDS:
            raise UserError(f"split is {split!r}; choose one of {', '.join(SEEDS)}")
        if stuff not in VARIANTS:
            raise UserError(f"stuff is {stuff!r}; choose one of {', '.join(VARIANTS)}")
        if kind not in CONTENTS:
            raise UserError(f"kind is {kind!r}; choose one of {', '.join(CONTENTS)}")
        if not 0 < count <= len(SEEDS[split]) or size < 1 or seed < 0:
            raise UserError(f"count {count} and size {size} must be positive and seed {seed} not negative")
        self.split, self.count, self.size, self.stuff, self.seed, self.kind = split, count, size, stuff, seed, kind
        self.name, classes = VARIANTS[stuff]
        self.classes = list(classes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {len(self)} pictures, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return self.count

    @property
    def identity(self) -> str:
        """What a result is about, as text."""
        return f"{self.name} {self.split} {self.kind}, seed {self.seed}, {self.count} of {self.size} px"

    def stream(self, index: int, purpose: int = 0) -> np.random.Generator:
        """The random stream of scene ``index``; negative indices count from the end."""
        if not -self.count <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        place = list(CONTENTS).index(self.kind)
        return np.random.default_rng([purpose, self.seed, SEEDS[self.split][index % self.count], place])

    def scene(self, index: int) -> Scene:
        """What is in scene ``index`` and where, before it is drawn."""
        return compose(self.stream(index), self.kind)

    def captions(self, index: int, count: int = 5) -> list[Caption]:
        """Several sentences about scene ``index``, each with the facts that it states."""
        scene, rng = self.scene(index), self.stream(index, purpose=1)
        return [caption(scene.nouns, scene.stuff, rng) for _ in range(count)]

    def __getitem__(self, index: int) -> Sample:
        image, label = draw(self.scene(index), self.size)
        thing = label < len(THINGS)
        if self.stuff == "background":
            label = np.where(thing, label + 1, 0).astype(np.uint8)
        elif self.stuff == "ignored":
            label = np.where(thing, label, self.ignore_index).astype(np.uint8)
        return Sample(image, label, f"{self.split}-{self.kind}-{self.seed}-{index % self.count:06d}")
