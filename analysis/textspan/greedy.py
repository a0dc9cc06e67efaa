"""The greedy choice of texts: Algorithm 1 of Gandelsman, Efros and Steinhardt (ICLR 2024, arXiv 2310.05916).

The algorithm takes the contributions of a head to N tokens as a matrix (N, E). All it asks of them is the span of their rows
and the variance along directions, so their first two moments are enough, whatever N is. These are known in the head's own C
channels, from which a linear map leads to the text space: no matrix here is larger than (C, E) or (texts, E).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RANK = 1e-6  # singular values below this share of the largest are rounding of float32 features
NOTHING = 1e-12  # a share that is rounding: of a constant head's mean square, or of the variance for the next text


class Moments(NamedTuple):
    """Of what a head adds to a number of tokens, in its own channels."""

    mean: np.ndarray  # (C,)
    second: np.ndarray  # (C, C), the mean of x·xᵀ


class Span(NamedTuple):
    """The chosen texts of one head."""

    texts: list[int]  # indices into the pool, in the order of choice; fewer than asked for where nothing is left
    shares: list[float]  # of the variance in the directions of the first 1, 2, … of them
    variance: float  # of the head's contributions in the text space, summed over its directions


def text_span(moments: Moments, toward: np.ndarray, texts: np.ndarray, count: int) -> Span:
    """Choose the texts that explain most of the variance of a head, one after another.

    The texts are first projected to the span of the head's contributions. Then `count` times: take the text r whose inner
    products with the contributions have the largest variance, and remove its direction from both,
    C ← C − (C·r)rᵀ/‖r‖² and R ← R − (R·r)rᵀ/‖r‖². As in the paper a text that lies half outside the span counts half.

    Args:
        moments: in the head's channels.
        toward: where the channels lead in the text space, (C, E).
        texts: text embeddings of length 1, (M, E).
        count: how many.

    >>> span = text_span(Moments(np.zeros(2), np.diag([9.0, 1.0])), np.eye(2, 3), np.eye(3), count=3)
    >>> span.texts, [round(share, 3) for share in span.shares], round(span.variance, 3)
    ([0, 1], [0.9, 1.0], 10.0)
    """
    basis = _span(moments.second, toward)  # (E, r)
    into = toward @ basis  # (C, r)
    left = into.T @ (moments.second - np.outer(moments.mean, moments.mean)) @ into  # (r, r)
    rest = texts @ basis  # (M, r)
    variance, size = float(np.trace(left)), float(np.trace(into.T @ moments.second @ into))
    chosen: list[int] = []
    shares: list[float] = []
    if variance <= NOTHING * size:  # it adds the same to every token
        return Span(chosen, shares, 0.0)
    while len(chosen) < count:
        along = np.einsum("mr,rs,ms->m", rest, left, rest)  # the variance of each text's inner products
        best = int(along.argmax())
        if along[best] <= NOTHING * variance:
            break
        direction = rest[best] / np.linalg.norm(rest[best])
        away = np.eye(len(direction)) - np.outer(direction, direction)
        left, rest = away @ left @ away, rest @ away
        chosen.append(best)
        shares.append(1 - float(np.trace(left)) / variance)
    return Span(chosen, shares, variance)


def _span(second: np.ndarray, toward: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the rows whose second moment is toward.T @ second @ toward, (E, r)."""
    values, vectors = np.linalg.eigh(second)
    rows = np.sqrt(values.clip(min=0))[:, None] * vectors.T @ toward  # (C, E), of the same second moment
    _, sizes, basis = np.linalg.svd(rows, full_matrices=False)
    return basis[sizes > RANK * sizes.max(initial=0)].T
