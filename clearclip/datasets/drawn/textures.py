"""The grounds that drawn scenes lie on: each texture is a function of a random stream and a side length in pixels.

The random numbers are drawn on fixed grids and enlarged, so a texture looks the same at every size.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.floating]


def noise(rng: np.random.Generator, rows: int, columns: int, size: int) -> Picture:
    """Smooth noise of about unit standard deviation with a given number of grains down and across, (size, size)."""
    grid = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def shade(colour: tuple[float, float, float], light: Picture) -> Picture:
    """A colour (0…255) times a light map (size, size), as (size, size, 3)."""
    return np.asarray(colour, np.float32) * light[..., None]


def axes(size: int) -> tuple[Picture, Picture]:
    """Row and column coordinates of the pixel centres in [0, 1], broadcastable to (size, size)."""
    centre: Picture = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return centre[:, None], centre[None, :]


def grass(rng: np.random.Generator, size: int) -> Picture:
    blades = noise(rng, 14, 52, size)
    patches = noise(rng, 4, 4, size)
    return shade((88, 160, 58), 0.92 + 0.2 * blades + 0.08 * patches) + shade((25, 10, 0), patches)


def sand(rng: np.random.Generator, size: int) -> Picture:
    y, _ = axes(size)
    ripple = np.sin(2 * np.pi * (rng.uniform(5, 9) * y + 0.5 * noise(rng, 3, 3, size)))
    return shade((222, 190, 130), 1 + 0.06 * ripple + 0.05 * noise(rng, 64, 64, size))


def water(rng: np.random.Generator, size: int) -> Picture:
    waves = noise(rng, 22, 6, size)
    crests = np.clip(waves - 0.9, 0, 1)
    return shade((30, 105, 150), 0.95 + 0.18 * waves) + shade((170, 170, 160), crests)


def snow(rng: np.random.Generator, size: int) -> Picture:
    y, _ = axes(size)
    drifts: Picture = np.sin(2 * np.pi * (2.5 * y + 0.35 * noise(rng, 3, 3, size)))  # soft waves, blue in their shadows
    flakes = np.clip(noise(rng, 40, 40, size) - 1.6, 0, 1)
    return (
        shade((226, 236, 250), 0.97 + 0.03 * drifts)
        - shade((34, 20, 2), np.clip(-drifts, 0, 1))
        + shade((60, 50, 30), flakes)
    )


def brick(rng: np.random.Generator, size: int) -> Picture:
    y, x = axes(size)
    rows = int(rng.integers(7, 11))
    row = np.floor(y * rows)
    along = x * rows / 2.2 + 0.5 * (row % 2)
    tone = rng.normal(1, 0.13, (16, 16)).astype(np.float32)[row.astype(int) % 16, np.floor(along).astype(int) % 16]
    mortar = ((y * rows) % 1 < 0.16) | (along % 1 < 0.08)
    return np.where(
        mortar[..., None],
        np.asarray((200, 190, 178), np.float32),
        shade((165, 72, 52), tone + 0.05 * noise(rng, 40, 40, size)),
    )


def sky(rng: np.random.Generator, size: int) -> Picture:
    y, _ = axes(size)
    cover: Picture = noise(rng, 6, 4, size) + 0.5 * noise(rng, 12, 9, size) - 0.3
    cloud = 0.85 * cover.clip(0, 1)[..., None]
    blue = shade((95, 160, 235), np.ones_like(y)) + shade((80, 55, 12), 0.9 * y)  # paler towards the horizon, (H, 1, 3)
    return blue * (1 - cloud) + 250 * cloud


def wood(rng: np.random.Generator, size: int) -> Picture:
    y, x = axes(size)
    planks = int(rng.integers(4, 7))
    plank = np.floor(y * planks).astype(int)
    tone = rng.normal(1, 0.09, 8).astype(np.float32)[plank]
    grain = noise(rng, 60, 4, size)
    joint = (x + rng.random(8).astype(np.float32)[plank]) % 1 < 0.012
    gap = ((y * planks) % 1 < 0.07) | joint
    return shade((172, 116, 62), (tone + 0.09 * grain) * np.where(gap, 0.4, 1))


def stone(rng: np.random.Generator, size: int) -> Picture:
    y, x = axes(size)
    cells = 6
    seeds = np.stack(np.meshgrid(np.arange(-1, cells + 1), np.arange(-1, cells + 1), indexing="ij"), -1).reshape(-1, 2)
    seeds = ((seeds + rng.uniform(0.15, 0.85, seeds.shape)) / cells).astype(np.float32)
    tones = rng.normal(1, 0.12, len(seeds)).astype(np.float32)
    near, far = np.full((size, size), 9, np.float32), np.full((size, size), 9, np.float32)
    tone = np.empty((size, size), np.float32)
    for (row, column), own in zip(
        seeds, tones, strict=True
    ):  # the two nearest seeds of each pixel, and the nearest one's tone
        distance = np.hypot(y - row, x - column)
        far = np.minimum(far, np.maximum(near, distance))
        tone[distance < near] = own
        near = np.minimum(near, distance)
    edge = np.clip((far - near) * 28, 0.35, 1)  # cobbles darken towards their joints
    return shade((150, 148, 145), tone * edge + 0.04 * noise(rng, 48, 48, size))


TEXTURES: dict[str, Callable[[np.random.Generator, int], Picture]] = {
    "brick": brick,
    "grass": grass,
    "sand": sand,
    "sky": sky,
    "snow": snow,
    "stone": stone,
    "water": water,
    "wood": wood,
}
STUFF = tuple(TEXTURES)
WALLS = ("brick", "sky", "wood")  # may also stand behind a ground
