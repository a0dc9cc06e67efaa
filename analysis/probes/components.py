"""Principal components of rows that arrive in parts, so that not all of them are ever in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg


@dataclass(frozen=True)
class Components:
    """Directions of largest variance.

    Args:
        mean: of all rows, (D,).
        directions: unit vectors in the columns, largest variance first, (D, components).
        variance: along each of them, (components,).
        total: variance along all D together.
    """

    mean: np.ndarray
    directions: np.ndarray
    variance: np.ndarray
    total: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Scores of rows (…, D), (…, components)."""
        return (x - self.mean) @ self.directions


class Moments:
    """Count, mean (D,) and scatter Σ(x − x̄)(x − x̄)ᵀ (D, D) of rows, in float64.

    Parts are merged around their own means (Chan, Golub & LeVeque 1983), so large means cost no digits.

    >>> moments = Moments()
    >>> moments.add(np.array([[0.0, 0.0], [2.0, 0.1]]))
    >>> moments.add(np.array([[4.0, 0.0]]))
    >>> moments.components(1).variance.round(2), moments.mean
    (array([4.]), array([2.        , 0.03333333]))
    """

    def __init__(self) -> None:
        self.count, self.mean, self.scatter = 0, np.zeros(1), np.zeros((1, 1))

    def add(self, x: np.ndarray) -> None:
        """Merge more rows, (rows, D) float64."""
        if not len(x):
            return
        mean = x.mean(0)
        centered, away = x - mean, mean - self.mean
        total = self.count + len(x)
        self.scatter = self.scatter + centered.T @ centered + np.outer(away, away) * (self.count * len(x) / total)
        self.mean = self.mean + away * (len(x) / total)
        self.count = total

    @property
    def most(self) -> int:
        """How many components these rows can have."""
        return max(0, min(self.count - 1, len(self.mean)))

    def components(self, count: int) -> Components:
        """The first components; each has the sign that makes its largest loading positive, as in scikit-learn."""
        D = len(self.mean)
        variance, directions = scipy.linalg.eigh(self.scatter / (self.count - 1), subset_by_index=(D - count, D - 1))
        variance, directions = variance[::-1].clip(0), directions[:, ::-1]
        directions = directions * np.sign(directions[np.abs(directions).argmax(0), range(count)])
        return Components(self.mean, directions, variance, float(np.trace(self.scatter)) / (self.count - 1))
