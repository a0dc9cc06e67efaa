"""A sum that does not depend on the order of its terms."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class ExactSum:
    """A sum of float64 arrays that does not depend on the order of its terms (an error-free transformation).

    Two machines that share the images, or a run that was interrupted, end with the same bits as one run.

    >>> total = ExactSum.zeros(())
    >>> for term in (1e16, 1.0, -1e16): total.add(np.float64(term))
    >>> float(total.value())
    1.0
    """

    def __init__(self, parts: np.ndarray) -> None:
        self.parts = parts  # (2, …): the sum, and what its rounding lost

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> ExactSum:
        """An empty sum."""
        return cls(np.zeros((2, *shape)))

    @classmethod
    def of_parts(cls, sums: Iterable[np.ndarray], shape: tuple[int, ...]) -> ExactSum:
        """One sum from the parts of several, each (2, …)."""
        total = cls.zeros(shape)
        for parts in sums:
            for part in parts:
                total.add(part)
        return total

    def add(self, term: np.ndarray) -> None:
        """Add one array of the sum's shape."""
        self.parts = self.plus(term).parts

    def plus(self, term: np.ndarray) -> ExactSum:
        """The sum with one more array of its shape (Knuth's two-sum)."""
        high, low = self.parts
        total = high + term
        shadow = total - high
        return ExactSum(np.stack([total, low + ((high - (total - shadow)) + (term - shadow))]))

    def value(self) -> np.ndarray:
        """The sum."""
        return self.parts.sum(0)
