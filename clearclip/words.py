"""Words that sentences everywhere need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def repeated(values: Iterable[T]) -> list[T]:
    """Those of some values that are there more than once, in their order.

    >>> repeated([3, 1, 3, 2])
    [3]
    """
    return [value for value, count in Counter(values).items() if count > 1]
