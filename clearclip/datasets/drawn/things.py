"""The things that drawn scenes are made of: each is a list of coloured polygons in the square [-1, 1]², y downwards."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

COLOURS = {
    "red": (205, 40, 40),
    "orange": (240, 135, 30),
    "yellow": (245, 210, 50),
    "green": (50, 150, 60),
    "blue": (45, 85, 205),
    "purple": (130, 60, 165),
    "pink": (240, 130, 175),
    "brown": (125, 80, 45),
    "black": (35, 35, 40),
    "grey": (135, 135, 140),
    "white": (245, 245, 240),
}
PAINT = COLOURS | {
    "glass": (160, 205, 230),
    "cream": (238, 222, 190),
    "leaf": (60, 135, 55),
}  # fixed parts use these too
PLAIN = ("red", "orange", "yellow", "green", "blue", "purple", "pink")

Points = NDArray[np.float64]


class Part(NamedTuple):
    """A polygon (N, 2) and its paint: a name in `PAINT`, or ``main``, the colour of the thing; ``light`` scales it."""

    points: Points
    paint: str = "main"
    light: float = 1.0


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, stop: float = 360) -> Points:
    """A (piece of an) ellipse as a polygon; angles in degrees, clockwise on the picture from the right."""
    angle = np.radians(np.linspace(start, stop, 28))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], -1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def shape(*points: tuple[float, float]) -> Points:
    return np.array(points, float)


def stroke(start: ArrayLike, end: ArrayLike, width: float) -> Points:
    """A straight line of a given width."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    side = np.array([-(b - a)[1], (b - a)[0]]) / np.hypot(*(b - a)) * width / 2
    return np.stack([a + side, b + side, b - side, a - side])


def arc(x: float, y: float, radius: float, width: float, start: float, stop: float) -> Points:
    """A curved line of a given width."""
    outer, inner = radius + width / 2, radius - width / 2
    return np.concatenate([ellipse(x, y, outer, outer, start, stop), ellipse(x, y, inner, inner, start, stop)[::-1]])


def eye(x: float, y: float, r: float) -> list[Part]:
    return [Part(ellipse(x, y, r, r), "white"), Part(ellipse(x, y, r / 2, r / 2), "black")]


def apple(rng: np.random.Generator) -> list[Part]:
    return [
        Part(np.concatenate([ellipse(-0.38, 0.15, 0.55, 0.8, 90, 290), ellipse(0.38, 0.15, 0.55, 0.8, -110, 90)])),
        Part(ellipse(-0.5, -0.1, 0.13, 0.22), "main", 1.35),
        Part(stroke((0, -0.5), (0.1, -1.0), 0.13), "brown", 0.8),
        Part(ellipse(0.42, -0.82, 0.33, 0.15), "leaf"),
    ]


def ball(rng: np.random.Generator) -> list[Part]:
    return [
        Part(ellipse(0, 0, 0.95, 0.95)),
        Part(ellipse(0, 0, 0.62, 0.95), "white"),
        Part(ellipse(0, 0, 0.24, 0.95)),
        Part(ellipse(0, -0.86, 0.14, 0.09), "white", 0.9),
    ]


def boat(rng: np.random.Generator) -> list[Part]:
    return [
        Part(stroke((0, -1), (0, 0.45), 0.1), "brown"),
        Part(shape((0.08, -0.95), (0.08, 0.3), (0.85, 0.3)), "white"),
        Part(shape((-0.08, -0.75), (-0.08, 0.3), (-0.7, 0.3)), "white", 0.88),
        Part(shape((-1, 0.4), (1, 0.4), (0.65, 0.95), (-0.65, 0.95))),
        Part(shape((-0.93, 0.5), (0.93, 0.5), (0.87, 0.6), (-0.87, 0.6)), "white"),
    ]


def butterfly(rng: np.random.Generator) -> list[Part]:
    parts = []
    for side in (-1, 1):
        parts += [
            Part(shape((0, 0.1), (side * 0.5, -0.85), (side * 0.95, -0.8), (side * 0.98, -0.3), (side * 0.5, 0.15))),
            Part(ellipse(side * 0.45, 0.45, 0.4, 0.42), "main", 0.75),
            Part(ellipse(side * 0.68, -0.48, 0.17, 0.19), "white"),
            Part(ellipse(side * 0.46, 0.48, 0.15, 0.17), "white"),
            Part(stroke((0, -0.5), (side * 0.3, -0.98), 0.07), "black"),
        ]
    return [*parts, Part(ellipse(0, 0.05, 0.12, 0.65), "black")]


def car(rng: np.random.Generator) -> list[Part]:
    parts = [
        Part(shape((-0.55, 0.0), (-0.35, -0.5), (0.35, -0.5), (0.65, 0.0))),
        Part(shape((-0.42, -0.02), (-0.28, -0.4), (-0.04, -0.4), (-0.04, -0.02)), "glass"),
        Part(shape((0.05, -0.02), (0.05, -0.4), (0.3, -0.4), (0.5, -0.02)), "glass"),
        Part(shape((-1, 0.1), (-0.9, -0.03), (0.75, -0.03), (0.97, 0.12), (1, 0.45), (-1, 0.45))),
        Part(box(0.85, 0.12, 0.99, 0.26), "yellow"),
    ]
    for x in (-0.55, 0.55):
        parts += [Part(ellipse(x, 0.45, 0.27, 0.27), "black"), Part(ellipse(x, 0.45, 0.12, 0.12), "grey", 1.3)]
    return parts


def cat(rng: np.random.Generator) -> list[Part]:
    parts = [
        Part(arc(0.5, 0.55, 0.36, 0.16, -80, 100), "main", 0.8),
        Part(ellipse(0, 0.5, 0.48, 0.5)),
        Part(ellipse(0, 0.62, 0.24, 0.32), "white", 0.95),
        Part(shape((-0.55, -0.3), (-0.55, -1.0), (-0.08, -0.68))),
        Part(shape((0.55, -0.3), (0.55, -1.0), (0.08, -0.68))),
        Part(ellipse(0, -0.32, 0.58, 0.46)),
        Part(shape((-0.1, -0.24), (0.1, -0.24), (0, -0.12)), "pink"),
    ]
    for side in (-1, 1):
        parts += [
            Part(ellipse(side * 0.24, -0.42, 0.12, 0.12), "yellow"),
            Part(ellipse(side * 0.24, -0.42, 0.04, 0.1), "black"),
            Part(stroke((side * 0.2, -0.16), (side * 0.8, -0.26), 0.04), "white"),
            Part(stroke((side * 0.2, -0.1), (side * 0.78, -0.04), 0.04), "white"),
        ]
    return parts


def clock(rng: np.random.Generator) -> list[Part]:
    parts = [Part(ellipse(0, 0, 0.98, 0.98)), Part(ellipse(0, 0, 0.78, 0.78), "white")]
    for angle in np.radians(np.arange(0, 360, 30)):
        tip = np.array([np.cos(angle), np.sin(angle)])
        parts.append(Part(stroke(0.58 * tip, 0.72 * tip, 0.08), "black"))
    for length, angle in zip((0.36, 0.58), rng.uniform(0, 2 * np.pi, 2), strict=True):
        parts.append(Part(stroke((0, 0), (length * np.cos(angle), length * np.sin(angle)), 0.11), "black"))
    return [*parts, Part(ellipse(0, 0, 0.1, 0.1), "black")]


def cup(rng: np.random.Generator) -> list[Part]:
    return [
        Part(arc(0.5, 0.1, 0.36, 0.16, -100, 100)),
        Part(np.concatenate([shape((-0.75, -0.6)), shape((0.6, -0.6)), ellipse(-0.075, 0.75, 0.5, 0.18, 0, 180)])),
        Part(ellipse(-0.075, -0.6, 0.675, 0.2), "white"),
        Part(ellipse(-0.075, -0.57, 0.52, 0.13), "brown", 0.8),
    ]


def duck(rng: np.random.Generator) -> list[Part]:
    return [
        Part(shape((-0.6, 0.3), (-1, -0.15), (-0.3, 0.05))),
        Part(ellipse(-0.1, 0.4, 0.75, 0.48)),
        Part(shape((0.7, -0.55), (1.0, -0.38), (0.7, -0.25)), "orange"),
        Part(ellipse(0.4, -0.42, 0.4, 0.4)),
        Part(ellipse(-0.2, 0.38, 0.38, 0.22), "main", 0.8),
        *eye(0.5, -0.5, 0.11),
    ]


def fish(rng: np.random.Generator) -> list[Part]:
    return [
        Part(shape((-0.5, 0), (-1, -0.5), (-0.85, 0), (-1, 0.5)), "main", 0.75),
        Part(shape((-0.3, -0.35), (0.1, -0.75), (0.35, -0.3)), "main", 0.75),
        Part(ellipse(0.15, 0, 0.8, 0.48)),
        Part(stroke((-0.1, -0.42), (-0.1, 0.42), 0.14), "white"),
        Part(stroke((0.28, -0.44), (0.28, 0.44), 0.14), "white"),
        Part(shape((0.05, 0.05), (-0.25, 0.3), (0.1, 0.28)), "main", 0.7),
        *eye(0.62, -0.12, 0.13),
    ]


def flower(rng: np.random.Generator) -> list[Part]:
    parts = [
        Part(stroke((0, -0.3), (0, 1), 0.12), "leaf"),
        Part(ellipse(0.28, 0.62, 0.3, 0.13), "leaf", 1.1),
        Part(ellipse(-0.28, 0.78, 0.3, 0.13), "leaf", 0.9),
    ]
    for angle in np.radians(np.arange(0, 360, 60) + rng.uniform(0, 60)):
        parts.append(Part(ellipse(0.4 * np.cos(angle), -0.4 + 0.4 * np.sin(angle), 0.26, 0.26)))
    return [*parts, Part(ellipse(0, -0.4, 0.23, 0.23), "yellow", 0.95)]


def house(rng: np.random.Generator) -> list[Part]:
    return [
        Part(box(0.4, -0.95, 0.62, -0.3), "grey", 0.7),
        Part(box(-0.78, -0.15, 0.78, 0.95)),
        Part(shape((-1, -0.1), (0, -0.9), (1, -0.1)), "brown", 0.8),
        Part(box(-0.5, 0.35, -0.1, 0.95), "brown", 0.6),
        Part(box(0.14, 0.15, 0.58, 0.55), "glass"),
        Part(stroke((0.36, 0.15), (0.36, 0.55), 0.06), "white"),
        Part(stroke((0.14, 0.35), (0.58, 0.35), 0.06), "white"),
    ]


def mushroom(rng: np.random.Generator) -> list[Part]:
    parts = [
        Part(shape((-0.22, 0), (0.22, 0), (0.34, 0.95), (-0.34, 0.95)), "cream"),
        Part(ellipse(0, 0.1, 0.95, 0.95, 180, 360)),
    ]
    for x, y, r in ((-0.5, -0.2, 0.16), (0.05, -0.52, 0.19), (0.55, -0.15, 0.15), (0.02, -0.08, 0.11)):
        parts.append(Part(ellipse(x, y, r, r * 0.85), "white"))
    return parts


def rocket(rng: np.random.Generator) -> list[Part]:
    return [
        Part(shape((-0.24, 0.5), (0, 1), (0.24, 0.5)), "orange"),
        Part(shape((-0.28, 0.05), (-0.7, 0.62), (-0.25, 0.5))),
        Part(shape((0.28, 0.05), (0.7, 0.62), (0.25, 0.5))),
        Part(
            shape((0, -1), (0.3, -0.45), (0.34, 0.1), (0.26, 0.58), (-0.26, 0.58), (-0.34, 0.1), (-0.3, -0.45)), "white"
        ),
        Part(shape((0, -1), (0.3, -0.45), (-0.3, -0.45))),
        Part(ellipse(0, -0.12, 0.17, 0.17), "glass", 0.8),
    ]


def star(rng: np.random.Generator) -> list[Part]:
    angle = np.radians(np.arange(10) * 36 - 90)
    radius = np.where(np.arange(10) % 2, 0.42, 1.0)
    return [Part(np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1))]


def tree(rng: np.random.Generator) -> list[Part]:
    trunk = Part(box(-0.14, 0.2, 0.14, 1), "brown", 0.8)
    if rng.random() < 0.5:  # a fir
        tiers = ((0.55, 0.1, 0.78), (0.0, -0.4, 0.62), (-0.45, -1.0, 0.45))
        return [trunk, *(Part(shape((-w, low), (0, top - 0.1), (w, low)), "leaf", 0.85) for low, top, w in tiers)]
    crown = ((-0.4, -0.1, 0.42), (0.4, -0.1, 0.42), (0, -0.5, 0.48), (0, -0.05, 0.4))
    return [trunk, *(Part(ellipse(x, y, r, r), "leaf") for x, y, r in crown)]


def umbrella(rng: np.random.Generator) -> list[Part]:
    parts = [
        Part(stroke((0, -1), (0, 0.75), 0.09), "brown", 0.7),
        Part(arc(-0.17, 0.75, 0.17, 0.1, 0, 180), "brown", 0.7),
    ]
    rim = np.linspace(-0.98, 0.98, 6)
    for i, (left, right) in enumerate(pairwise(rim)):  # panels meet at the tip
        arch = np.linspace(0, 1, 8)
        side = [
            np.stack([x * np.sin(arch * np.pi / 2), -0.85 + 0.95 * (1 - np.cos(arch * np.pi / 2))], -1)
            for x in (left, right)
        ]
        hem = ellipse((left + right) / 2, 0.1, (right - left) / 2, 0.13, 180, 360)
        parts.append(Part(np.concatenate([side[0], hem, side[1][::-1]]), "main" if i % 2 == 0 else "white"))
    return parts


def zebra(rng: np.random.Generator) -> list[Part]:
    parts = [Part(stroke((x, 0.3), (x, 0.98), 0.14), "white", 0.9) for x in (-0.55, -0.3, 0.2, 0.42)]
    parts += [Part(stroke((x, 0.55), (x, 0.63), 0.14), "black") for x in (-0.55, -0.3, 0.2, 0.42)]
    parts += [
        Part(stroke((-0.72, 0.0), (-0.92, 0.45), 0.08), "black"),
        Part(shape((0.15, 0.05), (0.5, -0.75), (0.75, -0.6), (0.6, 0.2)), "white"),
        Part(ellipse(-0.08, 0.15, 0.68, 0.34), "white"),
        Part(shape((0.45, -0.7), (0.62, -0.88), (0.98, -0.45), (0.88, -0.3), (0.6, -0.45)), "white"),
        Part(shape((0.88, -0.42), (1.0, -0.48), (0.98, -0.3), (0.86, -0.28)), "black"),
        Part(shape((0.5, -0.8), (0.52, -1.0), (0.65, -0.82)), "white"),
        Part(stroke((0.12, 0.0), (0.46, -0.8), 0.1), "black"),
        Part(ellipse(0.68, -0.62, 0.05, 0.05), "black"),
    ]
    for x in (-0.6, -0.42, -0.24, -0.06, 0.12, 0.3):
        half = 0.31 * np.sqrt(1 - ((x + 0.08) / 0.68) ** 2)
        parts.append(Part(stroke((x - 0.03, 0.15 - half), (x + 0.03, 0.15 + half), 0.08), "black"))
    for low, high in (((0.3, -0.05), (0.62, 0.1)), ((0.38, -0.3), (0.66, -0.18)), ((0.46, -0.52), (0.7, -0.42))):
        parts.append(Part(stroke(low, high, 0.08), "black"))
    return parts


class Kind(NamedTuple):
    """How one thing may vary: its parts, its colours (none to speak of if empty), its tilt in degrees either way."""

    parts: Callable[[np.random.Generator], list[Part]]
    colours: tuple[str, ...] = ()
    tilt: float = 15


KINDS = {
    "apple": Kind(apple, ("red", "green", "yellow"), 30),
    "ball": Kind(ball, PLAIN, 180),
    "boat": Kind(boat, (*PLAIN, "brown")),
    "butterfly": Kind(butterfly, PLAIN, 60),
    "car": Kind(car, (*PLAIN, "grey")),
    "cat": Kind(cat, ("black", "orange", "grey", "brown")),
    "clock": Kind(clock, (*PLAIN, "brown", "black"), 30),
    "cup": Kind(cup, PLAIN),
    "duck": Kind(duck, ("yellow", "brown", "green"), 15),
    "fish": Kind(fish, PLAIN, 40),
    "flower": Kind(flower, ("red", "orange", "blue", "purple", "pink", "white")),
    "house": Kind(house, ("red", "yellow", "blue", "pink", "white", "grey"), 8),
    "mushroom": Kind(mushroom, ("red", "orange", "brown", "purple")),
    "rocket": Kind(rocket, PLAIN, 60),
    "star": Kind(star, ("yellow", "orange", "red", "blue", "purple", "pink"), 180),
    "tree": Kind(tree, tilt=8),
    "umbrella": Kind(umbrella, PLAIN, 30),
    "zebra": Kind(zebra, tilt=12),
}
THINGS = tuple(KINDS)
