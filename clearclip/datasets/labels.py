"""Label files: the raw ids in them, and the classes that a rule makes of these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clearclip.contents import opened
from clearclip.pictures import BadImage, raster_formats

IGNORE = 255
OUTSIDE = -1  # marks raw ids that a rule does not know
INDEX_MODES = ("1", "L", "P", "I", "I;16")  # what Pillow calls pictures of one number per pixel

Rule = Mapping[int, int]  # raw id → class, or IGNORE


class BadLabel(BadImage):
    """A label file that cannot be read, does not fit its picture, or holds ids that its data set does not have."""


def read_label(path: Path) -> NDArray[np.integer]:
    """The raw ids of a label picture, (H, W), palettes and 16-bit pictures included; raises `BadLabel`."""
    try:
        with opened(path) as file, Image.open(file, formats=raster_formats()) as image:
            if image.mode not in INDEX_MODES:
                raise ValueError(f"its pixels are colours ({image.mode}), not class indices")
            return np.asarray(image, np.uint8 if image.mode == "1" else None)
    except Exception as error:  # Pillow's decoders raise all kinds on broken files
        reason = "no picture that Pillow can read" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise BadLabel(f"{path}: {reason or type(error).__name__}") from error


def table(rule: Rule) -> NDArray[np.int16]:
    """A rule as an array indexed by raw id, with -1 for the ids that it does not know.

    >>> table({0: 255, 1: 0, 3: 1}).tolist()
    [255, 0, -1, 1]
    """
    lookup = np.full(max(rule) + 1, OUTSIDE, np.int16)
    lookup[list(rule)] = list(rule.values())
    return lookup


def relabel(raw: NDArray[np.integer], lookup: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The classes (H, W) of raw ids (H, W) by a `table`; raises ValueError that names ids outside the table.

    >>> relabel(np.array([[0, 1], [3, 3]]), table({0: 255, 1: 0, 3: 1})).tolist()
    [[255, 0], [1, 1]]
    """
    if raw.size and raw.min() >= 0 and raw.max() < len(lookup):
        classes = lookup[raw]
        if classes.min() != OUTSIDE:
            return classes.astype(np.uint8)
    unknown = [int(i) for i in np.unique(raw) if not (0 <= i < len(lookup) and lookup[i] != OUTSIDE)]
    more = ", …" if len(unknown) > 8 else ""
    raise ValueError(f"label values outside the table: {', '.join(map(str, unknown[:8]))}{more}")


def without_background(rule: Rule) -> dict[int, int]:
    """The same rule with class 0 ignored and the others moved down by one.

    >>> without_background({0: 0, 1: 1, 2: 2, 255: 255})
    {0: 255, 1: 0, 2: 1, 255: 255}
    """
    return {raw: IGNORE if cls in (0, IGNORE) else cls - 1 for raw, cls in rule.items()}
