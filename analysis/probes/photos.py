"""The photograph beside its maps: what the model sees of it, small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.models.backbone import Backbone

SIDE = 224  # pixels


def thumbnail(image: Tensor, model: Backbone) -> np.ndarray:
    """A normalized image (3, H, W) as the pixels it was made of, small, (224, 224, 3) uint8."""
    pixels = F.interpolate((model.denormalize(image) * 255)[None], size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return pixels[0].clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def photo(thumbnails: Sequence[np.ndarray]) -> tuple[Any, ...]:
    """The variable `photo` of one model, from the thumbnails of its pictures."""
    about = {"long_name": "what the model sees", "units": "gray levels"}
    return ("model", "image", "y", "x", "rgb"), np.stack(thumbnails)[None], about
