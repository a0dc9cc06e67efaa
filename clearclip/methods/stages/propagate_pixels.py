"""Scores spread over the pixels of a picture (LPOSS+)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from skimage.color import rgb2lab
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.graph import inverse_root, precise, propagated
from clearclip.methods.stages.stage import Merged, Picture
from clearclip.methods.windows import PatchLogits

LAB = torch.tensor([100.0, 128.0, 128.0], dtype=torch.float64)  # L, a and b are divided by this
AT_ONCE = {"cpu": 2**18}  # scores that go through the graph together: a CPU is fastest within its cache, …
AT_ONCE_ELSEWHERE = 2**25  # … an accelerator with larger steps


@dataclass(frozen=True, repr=False)
class PropagatePixels(Merged):
    """(I − α·Ŵ)·Z = (1 − α)·Y over all pixels; w_ij = exp(−‖Lab_i − Lab_j‖ / τ) for pixels of one r × r neighborhood.

    Y are the scores at every pixel of the resized picture, Lab its colors divided by (100, 128, 128), Ŵ = D^-½·W·D^-½. The
    graph takes 4·(r² − 1) bytes and the scores 4 bytes for each name, for each pixel.

    Args:
        width: r, an odd number.
        tau: τ.
        alpha: α.
        steps: iterations of conjugate gradients; so few that they are a part of the method.
    """

    width: int = 13
    tau: float = 0.01
    alpha: float = 0.95
    steps: int = 10

    def __post_init__(self) -> None:
        if self.width < 3 or self.width % 2 == 0 or self.tau <= 0 or self.steps < 1 or not 0 <= self.alpha < 1:
            raise UserError(
                f"{self!r}: width is odd and at least 3, tau above 0, steps at least 1, and alpha between 0 and 1, below 1."
            )

    def __call__(self, logits: PatchLogits, picture: Picture) -> PatchLogits:
        """Scores at every pixel, as one window of the whole picture with patches of one pixel."""
        pixels = picture.model.denormalize(picture.image.float()).clamp(0, 1)  # (3, H', W')
        lab = torch.from_numpy(rgb2lab(precise(pixels).cpu().numpy(), channel_axis=0)).to(precise(pixels))
        neighbors = Neighbors(lab / LAB.to(lab.device)[:, None, None], self.width // 2, self.tau)
        step = max(1, AT_ONCE.get(lab.device.type, AT_ONCE_ELSEWHERE) // math.prod(logits.size))
        scores = logits.maps()
        for start in range(0, len(scores), step):
            part = precise(scores[start : start + step]).flatten(1).T  # (H'W', names)
            scores[start : start + step] = (
                propagated(neighbors, part, self.alpha, self.steps).T.unflatten(1, logits.size).to(scores)
            )
        return replace(logits, windows=[((0, 0, *logits.size), scores)], patch=1, kept=None)


class Neighbors:
    """Ŵ between the pixels of neighborhoods: one map of weights for each of half the directions, the other half mirrors them.

    Args:
        colors: (3, H, W) float64.
        reach: how many pixels a neighborhood goes to every side.
        tau: τ.
    """

    def __init__(self, colors: Tensor, reach: int, tau: float) -> None:
        self.size = (colors.shape[-2], colors.shape[-1])
        directions = [(y, x) for y in range(reach + 1) for x in range(-reach, reach + 1) if (y, x) > (0, 0)]
        self.pairs = []
        degree = torch.zeros_like(colors[0])
        for y, x in directions:
            here, there = _ends(*self.size, y, x)
            weights = (-(colors[:, *here] - colors[:, *there]).norm(dim=0) / tau).exp()
            degree[here] += weights
            degree[there] += weights
            self.pairs.append((here, there, weights))
        root = inverse_root(degree)
        for here, there, weights in self.pairs:
            weights.mul_(root[here]).mul_(root[there])

    def __call__(self, z: Tensor) -> Tensor:
        """Ŵ·z, (HW, names)."""
        z = z.T.unflatten(1, self.size)  # (names, H, W)
        result = torch.zeros_like(z)
        for here, there, weights in self.pairs:
            result[:, *here].addcmul_(weights, z[:, *there])
            result[:, *there].addcmul_(weights, z[:, *here])
        return result.flatten(1).T


def _ends(height: int, width: int, y: int, x: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The pixels that have a neighbor so many rows below and columns beside them, and these neighbors."""
    top, left, right = max(height - y, 0), max(-x, 0), max(width - max(x, 0), 0)
    here = slice(0, top), slice(left, max(left, right))
    there = slice(y, y + top), slice(left + x, max(left, right) + x)
    return here, there
