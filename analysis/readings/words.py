"""Words for numbers, which the readings share."""

from __future__ import annotations

import math
from collections.abc import Sequence


def beside(first: str, a: float, second: str, b: float) -> str:
    """Which of two positive sizes is larger, and how many times.

    >>> beside("X_res", 12.0, "X_attn", 3.0)
    'X_res is 4 times as large as X_attn'
    >>> beside("X_res", 3.0, "X_attn", 3.1)
    'X_res is about as large as X_attn'
    """
    if max(a, b) < 1.1 * min(a, b):
        return f"{first} is about as large as {second}"
    if a < b:
        first, second, a, b = second, first, b, a
    return f"{first} is {times(a / b)} as large as {second}"


def times(ratio: float) -> str:
    """A ratio in words.

    >>> times(1.53), times(12.2), times(math.inf)
    ('1.5 times', '12 times', 'infinitely')
    """
    return (
        "infinitely"
        if math.isinf(ratio)
        else f"{ratio:.1f} times".replace(".0 ", " ")
        if ratio < 10
        else f"{ratio:.0f} times"
    )


def course(values: Sequence[float], keys: Sequence[float]) -> str:
    """How a curve runs: where it is highest if that is inside, otherwise in which direction it goes.

    >>> course([1.0, 2.0, 3.0], [0.1, 1, 10])
    'rises from 1.0 at 0.1 to 3.0 at 10'
    >>> course([1.0, 5.0, 3.0], [0.1, 1, 10])
    'is highest at 1 with 5.0, against 1.0 at 0.1 and 3.0 at 10'
    >>> course([2.0, 2.0], [0.1, 1])
    'stays at 2.0'
    """
    first, last = f"{values[0]:.1f} at {keys[0]:g}", f"{values[-1]:.1f} at {keys[-1]:g}"
    best = max(range(len(values)), key=values.__getitem__)
    if max(values) - min(values) < 0.05:
        return f"stays at {values[0]:.1f}"
    if 0 < best < len(values) - 1:
        return f"is highest at {keys[best]:g} with {values[best]:.1f}, against {first} and {last}"
    return f"{'rises' if best else 'falls'} from {first} to {last}"
