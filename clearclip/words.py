"""Words that sentences everywhere need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import count
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(count: int, noun: str) -> str:
    """How many there are of something.

    >>> counted(1, "shard"), counted(3000, "shard")
    ('1 shard', '3,000 shards')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def distinct(names: Iterable[str]) -> list[str]:
    """Names of which no two are equal: where one comes again, it gets a number.

    >>> distinct(["a", "b", "a", "a"])
    ['a', 'b', 'a (2)', 'a (3)']
    """
    given = list(names)
    reserved, result = set(given), dict[str, None]()
    for name in given:
        numbered = (f"{name} ({number})" for number in count(2))
        free = next(text for text in numbered if text not in reserved) if name in result else name
        reserved.add(free)
        result[free] = None
    return list(result)


def repeated(values: Iterable[T]) -> list[T]:
    """Those of some values that are there more than once, in their order.

    >>> repeated([3, 1, 3, 2])
    [3]
    """
    return [value for value, times in Counter(values).items() if times > 1]
