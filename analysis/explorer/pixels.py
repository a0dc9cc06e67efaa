"""From arrays over patches to pixels that a page shows: colors, and small files inside its HTML."""

from __future__ import annotations

import base64
import io

import matplotlib
import numpy as np
from PIL import Image


def colored(values: np.ndarray, colormap: str, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Numbers (rows, columns) as colors (rows, columns, 3) uint8, by default from their lowest to their highest.

    >>> colored(np.array([[0.0, 1.0]]), "gray").tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    shares = (values - low) / (high - low if high > low else 1)
    return matplotlib.colormaps[colormap](shares.astype(np.float64), bytes=True)[..., :3]


def shares_as_bytes(colors: np.ndarray) -> np.ndarray:
    """Colors in [0, 1] as uint8.

    >>> shares_as_bytes(np.array([[0.0, 0.5, 1.0]])).tolist()
    [[0, 128, 255]]
    """
    return (colors * 255).round().astype(np.uint8)


def png(pixels: np.ndarray | Image.Image) -> str:
    """Pixels (H, W, 3) uint8 as the address of a PNG that lies in the address itself."""
    return _address(pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels), "png", optimize=False)


def jpeg(picture: Image.Image, quality: int = 88) -> str:
    """A photograph as the address of a JPEG that lies in the address itself."""
    return _address(picture, "jpeg", quality=quality)


def _address(picture: Image.Image, kind: str, **how: int) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
