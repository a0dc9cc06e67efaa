"""Whether pictures of a size can go through a model at all: an estimate from below, made before the first is read."""

from __future__ import annotations

from bisect import bisect_right

import psutil
import torch

from clearclip.errors import UserError
from clearclip.models.backbone import Backbone

NUMBER = 4  # bytes of a float32
COPIES = 2  # of the pixels: as they were read, and on the device
MAPS = (
    10  # as large as the stream, held at once in a block: the stream, its norm, and the FFN before and after its GELU
)
PRODUCTS = 2  # tokens × tokens, where attention is asked for: q·kᵀ, and its softmax


def needed(model: Backbone, side: int, batch: int = 1, attention: bool = False) -> int:
    """Bytes that square pictures take at the least on their way through a model.

    Args:
        model: any `Backbone`.
        side: of the pictures, in pixels.
        batch: pictures in one forward pass.
        attention: whether attention maps are computed, which fused attention never holds.

    >>> import clearclip
    >>> model = clearclip.load("clip_tiny", device="cpu")
    >>> needed(model, 64) < needed(model, 64, batch=2) < needed(model, 128, attention=True)
    True
    """
    tokens = model.prefix_tokens + (side // model.patch_size) ** 2
    numbers = COPIES * 3 * side**2 + MAPS * tokens * model.width
    return NUMBER * batch * (numbers + attention * PRODUCTS * model.heads * tokens**2)


def free(device: torch.device) -> int | None:
    """Bytes that are free where a model is; None where it cannot be known."""
    if device.type == "cpu":
        return psutil.virtual_memory().available
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def refuse_too_large(model: Backbone, side: int | None, batch: int = 1, attention: bool = False) -> None:
    """Raise `UserError` for pictures that cannot fit into memory, with the largest size that can.

    Args:
        model, batch, attention: as for `needed`.
        side: of the pictures, in pixels; None for the weights' own.

    >>> import clearclip
    >>> refuse_too_large(clearclip.load("clip_tiny", device="cpu"), 128)
    """
    pixels = side or model.image_size
    space, wanted = free(model.device), needed(model, pixels, batch, attention)
    if space is None or wanted <= space:
        return
    patch = model.patch_size
    sides = range(patch, pixels, patch)
    fits = bisect_right(sides, space, key=lambda smaller: needed(model, smaller, batch, attention))
    advice = f"Up to {sides[fits - 1]} may fit" if fits else "No size fits"
    raise UserError(
        f"image size {pixels}: {'a picture' if batch == 1 else f'a batch of {batch} pictures'} takes at least "
        f"{wanted / 2**30:,.0f} GiB in {model.name}, and {space / 2**30:,.1f} GiB are free. {advice}"
        f"{' at this batch size' if batch > 1 else ''}."
    )
