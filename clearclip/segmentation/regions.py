"""Regions of pictures from files and arrays: label images, colors, masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clearclip.datasets.labels import INDEX_MODES, read_label
from clearclip.errors import UserError
from clearclip.pictures import BadImage, find_images


def as_regions(given: Any) -> NDArray[np.int64]:
    """A region for every pixel, (H, W); the smallest number stands for what belongs to no region.

    Args:
        given: a label image (H, W) of whole numbers, masks (K, H, W) of true and false, of which a later one lies over an
            earlier one, a PIL image, or a file.

    Raises:
        UserError: it is anything else.

    >>> as_regions(np.array([[[True, True, False]], [[False, True, False]]]))
    array([[1, 2, 0]])
    """
    if isinstance(given, (str, os.PathLike)):
        return read_regions(Path(given))
    if isinstance(given, Image.Image):
        return _numbers(given)
    labels = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if labels.ndim == 3 and labels.dtype == bool and len(labels):
        last = len(labels) - labels[::-1].argmax(0)  # the last mask that covers a pixel, counted from 1
        return np.where(labels.any(0), last, 0).astype(np.int64)
    if labels.ndim != 2 or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise UserError(
            f"regions are a label image (H, W) of whole numbers or masks (K, H, W) of true and false, not "
            f"{labels.dtype} {labels.shape}."
        )
    return labels.astype(np.int64)


def read_regions(path: Path) -> NDArray[np.int64]:
    """The regions of a label image: its indices, or a number for every color, 0 for black, (H, W); raises `UserError`."""
    try:
        with Image.open(path) as image:
            if image.format == "JPEG":
                raise UserError(f"{path}: JPEG changes the numbers of regions at their edges: save them as PNG.")
            if image.mode not in INDEX_MODES:
                return _numbers(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImage(f"{path}: {error}") from error
    return read_label(path).astype(np.int64)


def _numbers(image: Image.Image) -> NDArray[np.int64]:
    """Indices as they are, colors as numbers."""
    if image.mode in INDEX_MODES:
        return np.asarray(image).astype(np.int64)
    return np.asarray(image.convert("RGB")).astype(np.int64) @ np.array([2**16, 2**8, 1])


def regions_of(root: Path | None, names: Sequence[str]) -> dict[str, Path]:
    """The file with the regions of every picture, by the names of their results.

    Args:
        root: a file for one picture, or a folder with a file named like each picture, whatever its suffix.
        names: what the pictures' results are called.

    Raises:
        UserError: a picture has none.
    """
    if root is None:
        return {}
    if root.is_file():
        if len(names) != 1:
            raise UserError(f"{root} are the regions of one picture, and there are {len(names)}: name a folder.")
        return {names[0]: root}
    files = {path.relative_to(root).with_suffix("").as_posix(): path for path in find_images(root)}
    missing = [name for name in names if name not in files]
    if missing:
        raise UserError(f"{root} has no regions for {', '.join(missing[:5])}: it needs {root / missing[0]}.png.")
    return {name: files[name] for name in names}
