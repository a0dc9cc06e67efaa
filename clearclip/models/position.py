"""Position embeddings for grids other than the trained one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from clearclip.models.backbone import Backbone

WAYS: dict[str, dict[str, Any]] = {  # how some methods' own code resizes, to a size
    "antialias": {"mode": "bicubic", "antialias": True},  # GEM
    "bilinear": {"mode": "bilinear"},  # CLIP Surgery
}


def interpolate(embedding: Tensor, grid: tuple[int, int], prefix_tokens: int = 1, way: str = "") -> Tensor:
    """Resize a learned position embedding to another patch grid, as the published CLIP segmentation results do.

    Bicubic, without antialiasing, by scale factor (side + 0.1) / √N on the float32 embedding (the DINO code's trick;
    resizing by target size gives slightly other values), or in one of `WAYS`. The prefix part (CLS) is untouched.

    Args:
        embedding: (prefix + N, D), with N a square number.
        grid: (rows, columns) of patches.
        prefix_tokens: how many rows of the embedding belong to no patch.
        way: one of `WAYS`, empty for the usual one.

    Returns:
        (prefix + rows · columns, D).

    Raises:
        ValueError: N is not a square number.

    >>> interpolate(torch.zeros(1 + 14 * 14, 768), (28, 20)).shape
    torch.Size([561, 768])
    """
    prefix, patches = embedding[:prefix_tokens], embedding[prefix_tokens:]
    side = math.isqrt(len(patches))
    if side * side != len(patches):
        raise ValueError(f"the embedding has {len(patches)} patch positions, which is not a square grid")
    if grid == (side, side):
        return embedding
    image = patches.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, side, side)
    how: dict[str, Any] = (
        {"size": grid, **WAYS[way]}
        if way
        else {
            "scale_factor": ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side),
            "mode": "bicubic",
            "recompute_scale_factor": False,
        }
    )
    image = F.interpolate(image, align_corners=False, **how)
    if tuple(image.shape[-2:]) != grid:
        raise ValueError(f"asked for a grid of {grid}, interpolated to {tuple(image.shape[-2:])}")
    resized = image.flatten(2)[0].T.to(embedding.dtype)  # (rows · columns, D)
    return torch.cat([prefix, resized])


@dataclass(repr=False)
class FixedGridBackbone(Backbone):
    """A tower whose library knows one grid only: for another, it is called with its position embedding resized.

    Args:
        way: how, one of `WAYS`; empty for the usual one.
    """

    way: str = ""

    def _run_on_grid(self, images: Tensor, name: str) -> object:
        """Run the tower over (B, 3, H, W) with its parameter `name`, the position embedding, resized to their grid."""
        grid = self.grid((images.shape[-2], images.shape[-1]))
        if grid == self.grid():
            return self.vit(images)
        embedding = self.vit.get_parameter(name).detach()  # (1 + N, D), in BLIP (1, 1 + N, D)
        resized = interpolate(
            embedding.flatten(0, -2), grid, way=self.way
        )  # each time, for the weights may be in training
        return functional_call(self.vit, {name: resized.reshape(*embedding.shape[:-2], *resized.shape)}, (images,))

    def resized(self, way: str) -> Backbone:
        """The same model with its position embedding resized in another way; its own view and weights stay as they are."""
        return replace(self, way=way) if way else self
