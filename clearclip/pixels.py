"""Pictures in memory: PIL images, arrays, tensors, batches and loaders of them become RGB images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from clearclip.errors import UserError
from clearclip.pictures import find_images, read_image, upright_rgb

Picture = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor

KEYS = ("image", "images", "pixel_values", "img", "pixels")  # what loaders call the pictures of a batch
CAN_BE_TAKEN = (
    "a folder, files, PIL images, arrays (H, W, 3), tensors (3, H, W), batches or lists of these, a DataLoader, "
    "a benchmark such as voc21:data/voc, or a data set"
)


def as_picture(image: Picture) -> Image.Image:
    """A path, PIL image, array (H, W), (H, W, 3 or 4) or tensor (3, H, W) as an RGB picture; floats lie in [0, 1].

    Raises:
        UserError: it is anything else, or normalized already.

    >>> import torch
    >>> as_picture(np.zeros((4, 6, 3), np.uint8)).size, as_picture(torch.ones(3, 4, 6)).getpixel((0, 0))
    ((6, 4), (255, 255, 255))
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    if isinstance(image, Image.Image):
        try:
            return upright_rgb(image)
        except ValueError as error:
            raise UserError(f"this picture of mode {image.mode} cannot be used: {error}") from error
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (1, 3, 4)) or not pixels.size:
        raise UserError(
            f"a picture is an array (H, W, 3) or a tensor (3, H, W), not {type(image).__name__} {tuple(np.shape(pixels))}."
        )
    if np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise UserError("a picture of floats has values in [0, 1]; it must not be normalized yet.")
        pixels = (pixels * 255).round()
    elif pixels.min() < 0 or pixels.max() > 255:
        raise UserError(f"a picture of whole numbers has values in 0 … 255, not {pixels.min()} … {pixels.max()}.")
    return upright_rgb(
        Image.fromarray(pixels.astype(np.uint8).squeeze(-1) if pixels.shape[-1:] == (1,) else pixels.astype(np.uint8))
    )


def in_memory(source: Any) -> Iterator[Image.Image]:
    """The pictures of a picture, a batch, a DataLoader or a data set, one after another and not more than are asked for.

    A loader or data set gives images, (images, labels) or dictionaries with one of `KEYS`.

    Raises:
        UserError: it is nothing of that, or its values are normalized already.

    >>> import torch
    >>> [picture.size for picture in in_memory(torch.zeros(2, 3, 4, 6))]
    [(6, 4), (6, 4)]
    """
    if isinstance(source, (DataLoader, IterableDataset)):
        for sample in source:
            yield from in_memory(_images_of(sample))
    elif isinstance(source, (np.ndarray, Tensor)) and source.ndim == 4:
        yield from map(as_picture, source)
    elif isinstance(source, (Image.Image, np.ndarray, Tensor)):
        yield as_picture(source)
    elif isinstance(source, Mapping):
        yield from in_memory(_images_of(source))
    elif hasattr(source, "__getitem__") and hasattr(source, "__len__") and not isinstance(source, (str, bytes)):
        for i in range(len(source)):
            yield from in_memory(_images_of(source[i]))
    else:
        raise UserError(f"pictures cannot be taken from {type(source).__name__}: give {CAN_BE_TAKEN}.")


def _images_of(sample: Any) -> Any:
    """The images of what a loader gives."""
    if isinstance(sample, Mapping):
        known = [key for key in KEYS if key in sample]
        if not known:
            raise UserError(
                f"a loader gives dictionaries with {', '.join(map(str, sample))}: the pictures must be under one of "
                f"{', '.join(KEYS)}."
            )
        return sample[known[0]]
    return sample[0] if isinstance(sample, (list, tuple)) else sample


def opened(source: Any) -> Iterator[Image.Image]:
    """Every picture of a source as RGB: files and folders are read, everything else is in memory.

    Raises:
        UserError: no picture can be taken from it.
    """
    if isinstance(source, (list, tuple)):
        for part in source:
            yield from opened(part)
    elif isinstance(source, (str, os.PathLike)):
        yield from map(read_image, find_images(source) if Path(source).is_dir() else [source])
    else:
        yield from in_memory(source)


def is_single(source: Any) -> bool:
    """Whether a source is one picture, not many."""
    if isinstance(source, (str, os.PathLike)):
        return not Path(source).is_dir()
    return isinstance(source, Image.Image) or (isinstance(source, (np.ndarray, Tensor)) and source.ndim < 4)
