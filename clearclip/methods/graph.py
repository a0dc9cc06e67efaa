"""Scores spread over a graph: what resembles one another is labelled alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def propagated(
    times: Callable[[Tensor], Tensor], scores: Tensor, alpha: float, steps: int, tolerance: float = 1e-6
) -> Tensor:
    """Z of (I − α·Ŵ)·Z = (1 − α)·Y by conjugate gradients, every name for itself.

    The factor 1 − α, which the authors of LPOSS leave out, changes no label and keeps scores of the size of cosines, so
    that thresholds and temperatures mean what they mean elsewhere.

    Args:
        times: Ŵ·z for (nodes, names), where Ŵ = D^-½·W·D^-½ is symmetric.
        scores: Y, (nodes, names) float64.
        alpha: how much is taken over from neighbors, below 1.
        steps: at most so many; few steps are a part of the method.
        tolerance: a name is done when its residual is that much smaller than its scores.

    >>> ring = torch.eye(4, dtype=torch.float64).roll(1, 0)
    >>> scores = torch.tensor([[1.0], [0.0], [1.0], [0.0]], dtype=torch.float64)
    >>> propagated(lambda z: (ring + ring.T) @ z / 2, scores, alpha=0.5, steps=9).flatten()
    tensor([0.6667, 0.3333, 0.6667, 0.3333], dtype=torch.float64)
    """
    residual = (1 - alpha) * scores
    square = residual.square().sum(0)  # (names,)
    enough = tolerance**2 * square
    z, direction = torch.zeros_like(scores), residual.clone()
    for _ in range(steps):
        going = square > enough
        if not going.any():
            break
        image = direction - alpha * times(direction)
        step = torch.where(going, square / (direction * image).sum(0), 0)
        z += step * direction
        residual -= step * image
        before, square = square, residual.square().sum(0)
        direction = residual + torch.where(going, square / before, 0) * direction
    return z


def inverse_root(degree: Tensor) -> Tensor:
    """D^-½ of the sums of W's rows, where a node without neighbors counts as one of degree 1."""
    return torch.where(degree == 0, 1, degree).rsqrt()


def precise(x: Tensor) -> Tensor:
    """In float64, on the CPU if the accelerator has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def mean_cosine(unit: Tensor) -> float:
    """The mean over all N × N cosines of unit vectors (N, D), themselves included: ‖mean‖²."""
    return float(precise(unit).mean(0).square().sum())
