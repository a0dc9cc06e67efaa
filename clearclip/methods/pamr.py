"""Pixel-adaptive refinement (PAMR): scores of pixels averaged over neighbors of the same color (Araslanov & Roth, CVPR 2020).

w_n = softmax over all neighbors n of −mean over the channels of |x − x_n| / (1e-8 + σ/10);   scores ← Σ w_n·scores_n, again and
again with the same w. The neighbors are the eight around a pixel at every dilation, borders are repeated, and σ is the unbiased
deviation of a pixel's neighbors and itself, which counts once for every dilation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (8, 16)  # in pixels
STEPS = 10


class Weights(NamedTuple):
    """How much every pixel takes from each of its neighbors."""

    values: Tensor  # (B, 8 · dilations, H, W), which add up to 1
    dilations: tuple[int, ...]


def pamr_weights(image: Tensor, dilations: tuple[int, ...] = DILATIONS) -> Weights:
    """The weights of all neighbors, from the colors of images.

    Args:
        image: normalized for the model, (B, 3, H, W).
        dilations: how far the neighbors are, in pixels.

    Returns: 8 · dilations float32 values for every pixel, which is what refining holds beside two copies of the scores.

    >>> pamr_weights(torch.zeros(1, 3, 4, 6), (1,)).values[0, :, 2, 3]
    tensor([0.1250, 0.1250, 0.1250, 0.1250, 0.1250, 0.1250, 0.1250, 0.1250])
    """
    image, copies = image.float(), len(dilations)
    count = 9 * copies
    mean = (copies * image + sum(_neighbors(image, dilations))) / count
    squares = copies * (image - mean).square() + sum((x - mean).square() for x in _neighbors(image, dilations))
    width = 1e-8 + 0.1 * (squares / (count - 1)).sqrt()  # (B, 3, H, W)
    alike = [-((image - x).abs() / width).mean(1) for x in _neighbors(image, dilations)]
    return Weights(torch.stack(alike, 1).softmax(1), tuple(dilations))


def refine(scores: Tensor, weights: Weights, steps: int = STEPS) -> Tensor:
    """Scores (B, Q, h, w) at the pixels of the image that the weights are from, and averaged, (B, Q, H, W).

    Every name is refined on its own, so that many of them may come in parts.
    """
    size = tuple(weights.values.shape[-2:])
    if tuple(scores.shape[-2:]) != size:
        scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=True)
    for _ in range(steps):
        refined = torch.zeros_like(scores)
        for weight, neighbor in zip(weights.values.unbind(1), _neighbors(scores, weights.dilations), strict=True):
            refined.addcmul_(weight[:, None].to(scores.dtype), neighbor)
        scores = refined
    return scores


def _neighbors(x: Tensor, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """The map (B, C, H, W), shifted to each neighbor in turn; beyond the border its last pixels are repeated."""
    height, width = x.shape[-2:]
    for step in dilations:
        padded = F.pad(x, (step,) * 4, mode="replicate")
        for y, x_ in product((0, step, 2 * step), repeat=2):
            if (y, x_) != (step, step):
                yield padded[..., y : y + height, x_ : x_ + width]
