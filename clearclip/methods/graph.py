"""Scores spread over a graph: what resembles one another is labelled alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


def propagated(graph: sparse.csr_array, scores: Tensor, alpha: float, steps: int, tolerance: float = 1e-6) -> Tensor:
    """Z of (I − α·Ŵ)·Z = (1 − α)·Y by conjugate gradients, every name for itself.

    The factor 1 − α, which the authors of LPOSS leave out, changes no label and keeps scores of the size of cosines, so
    that thresholds and temperatures mean what they mean elsewhere.

    Args:
        graph: Ŵ = D^-½·W·D^-½, symmetric, float64.
        scores: Y, (nodes, names).
        alpha: how much is taken over from neighbors, below 1.
        steps: at most so many; few steps are a part of the method.
        tolerance: a name is done when its residual is that much smaller than its scores.

    Returns: Z, (nodes, names), of the scores' type.

    >>> ring = sparse.csr_array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]) / 2
    >>> propagated(ring, torch.tensor([[1.0], [0.0], [1.0], [0.0]]), alpha=0.5, steps=9).flatten()
    tensor([0.6667, 0.3333, 0.6667, 0.3333])
    """
    residual = (1 - alpha) * precise(scores)
    times = _times(graph, residual.device)
    square = residual.square().sum(0)  # (names,)
    enough = tolerance**2 * square
    z, direction = torch.zeros_like(residual), residual.clone()
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
    return z.to(scores)


def _times(graph: sparse.csr_array, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The product of a graph with (nodes, names) on a device; on the CPU SciPy's is the fastest."""
    if device.type == "cpu":
        return lambda z: torch.from_numpy(graph @ z.numpy())
    ends, columns, weights = (torch.from_numpy(part).to(device) for part in (graph.indptr, graph.indices, graph.data))
    matrix = torch.sparse_csr_tensor(ends, columns, weights, graph.shape, check_invariants=False)
    return lambda z: matrix @ z


def inverse_root(degree: np.ndarray) -> np.ndarray:
    """D^-½ of the sums of W's rows, where a node without neighbors counts as one of degree 1."""
    return np.where(degree == 0, 1, degree) ** -0.5


def precise(x: Tensor) -> Tensor:
    """In float64, on the CPU if the accelerator has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def mean_cosine(unit: Tensor) -> float:
    """The mean over all N × N cosines of unit vectors (N, D), themselves included: ‖mean‖²."""
    return float(precise(unit).mean(0).square().sum())
