"""Pictures on their way to the model: what can be done in other threads, while the model is at the pictures before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clearclip.methods.windows import Windows, resize
from clearclip.models.backbone import Backbone


@dataclass(frozen=True)
class Prepared:
    """A picture for a model.

    Args:
        pixels: for a CPU those of the windows' size, normalized, (3, H', W'); for an accelerator those of the picture itself,
            (H, W, 3) uint8, in pinned memory for CUDA, from where they are copied while it computes.
        height: of the picture itself.
        width: likewise.
    """

    pixels: Tensor
    height: int
    width: int

    def image(self, model: Backbone, windows: Windows) -> Tensor:
        """The picture at the windows' size, normalized, on the model's device, (3, H', W')."""
        if self.pixels.dtype != torch.uint8:
            return self.pixels
        return _normalized(self.pixels.to(model.device, non_blocking=True), model, windows)


def prepare(picture: Image.Image, model: Backbone, windows: Windows) -> Prepared:
    """A picture as far as it can be prepared beside a model that computes."""
    pixels = torch.from_numpy(np.array(picture))  # (H, W, 3)
    if model.device.type == "cpu":
        pixels = _normalized(pixels, model, windows)
    elif model.device.type == "cuda":
        pixels = pixels.pin_memory()
    return Prepared(pixels, picture.height, picture.width)


def _normalized(pixels: Tensor, model: Backbone, windows: Windows) -> Tensor:
    size = windows.resized(pixels.shape[0], pixels.shape[1])
    return model.normalize(resize(pixels.permute(2, 0, 1), size) / 255)
