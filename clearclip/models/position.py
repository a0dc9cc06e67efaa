"""Position embeddings for grids other than the trained one."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def interpolate(embedding: Tensor, grid: tuple[int, int], prefix_tokens: int = 1) -> Tensor:
    """Resize a learned position embedding to another patch grid, as the published CLIP segmentation results do.

    Bicubic, without antialiasing, by scale factor (side + 0.1) / √N on the float32 embedding (the DINO code's trick;
    resizing by target size gives slightly other values). The prefix part (CLS) is untouched.

    Args: embedding (prefix + N, D) with N a square number; grid (rows, columns).
    Returns: (prefix + rows·columns, D).

    >>> interpolate(torch.zeros(1 + 14 * 14, 768), (28, 20)).shape
    torch.Size([561, 768])
    """
    prefix, patches = embedding[:prefix_tokens], embedding[prefix_tokens:]
    side = math.isqrt(len(patches))
    if side * side != len(patches):
        raise ValueError(f"the embedding has {len(patches)} patch positions, which is no square grid")
    if grid == (side, side):
        return embedding
    image = patches.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, side, side)
    scale = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
    image = F.interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False, recompute_scale_factor=False)
    if tuple(image.shape[-2:]) != grid:
        raise ValueError(f"asked for a grid of {grid}, interpolated to {tuple(image.shape[-2:])}")
    resized = image.flatten(2)[0].T.to(embedding.dtype)  # (rows · columns, D)
    return torch.cat([prefix, resized])
