"""Scores spread over the pixels of a picture (LPOSS+)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from skimage.color import rgb2lab

from clearclip.errors import UserError
from clearclip.methods.graph import inverse_root, precise, propagated
from clearclip.methods.stages.stage import Merged, Picture
from clearclip.methods.windows import PatchLogits

LAB = np.array([100.0, 128.0, 128.0])[:, None, None]  # L, a and b are divided by this
AT_ONCE = 16  # names that go through the graph together


@dataclass(frozen=True, repr=False)
class PropagatePixels(Merged):
    """(I − α·Ŵ)·Z = (1 − α)·Y over all pixels; w_ij = exp(−‖Lab_i − Lab_j‖ / τ) for pixels of one r × r neighborhood.

    Y are the scores at every pixel of the resized picture, Lab its colors divided by (100, 128, 128), Ŵ = D^-½·W·D^-½. For each
    pixel the graph takes 12·(r² − 1) bytes and a name 4.

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
        pixels = precise(picture.model.denormalize(picture.image.float())).clamp(0, 1)  # (3, H', W')
        graph = neighborhoods(rgb2lab(pixels.cpu().numpy(), channel_axis=0) / LAB, self.width // 2, self.tau)
        scores = logits.maps()  # (Q, H', W')
        for part in scores.split(AT_ONCE):
            spread = propagated(graph, part.flatten(1).T, self.alpha, self.steps)
            part.copy_(spread.T.unflatten(1, logits.size))
        return replace(logits, windows=[((0, 0, *logits.size), scores)], patch=1, kept=None)


def neighborhoods(colors: np.ndarray, reach: int, tau: float) -> sparse.csr_array:
    """Ŵ between pixels that are at most so many rows and columns apart, (HW, HW).

    Every row has room for all neighbors; those beyond the border are the pixel itself, with weight 0.

    Args:
        colors: (3, H, W) float64.
        reach: how many pixels a neighborhood goes to every side.
        tau: τ.
    """
    height, width = colors.shape[1:]
    directions = [(y, x) for y, x in itertools.product(range(-reach, reach + 1), repeat=2) if (y, x) != (0, 0)]
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    neighbors = np.repeat(numbers[..., None], len(directions), 2)  # (H, W, directions)
    weights = np.zeros(neighbors.shape)
    for i, (y, x) in enumerate(directions):
        here = _overlap(height, -y), _overlap(width, -x)
        there = _overlap(height, y), _overlap(width, x)
        weights[*here, i] = np.exp(-np.linalg.norm(colors[:, *here] - colors[:, *there], axis=0) / tau)
        neighbors[*here, i] = numbers[there]
    root = inverse_root(weights.sum(2))
    for row in range(height):  # or there would be a second array of this size
        weights[row] *= root[row, :, None] * root.flat[neighbors[row]]
    small = neighbors.size < 2**31
    ends = np.arange(0, neighbors.size + 1, len(directions), dtype=np.int32 if small else np.int64)
    return sparse.csr_array((weights.ravel(), neighbors.ravel(), ends), shape=(numbers.size, numbers.size))


def _overlap(side: int, shift: int) -> slice:
    """Where a stretch lies in itself moved by a shift."""
    return slice(min(max(shift, 0), side), max(min(side + shift, side), 0))
