"""What a product with parameters is: one way to get A·v, written down as it is called, such as Similarity(layer=9)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.part import Part
from clearclip.methods.trunk import Attended


@dataclass(frozen=True, repr=False)
class Product(Part, ABC):
    """One affinity of the last block."""

    elsewhere: ClassVar[bool] = False  # its patches lie on the second model's grid, and no other token is there
    patches_only: ClassVar[bool] = False  # it speaks of patches, so the recipe must leave the CLS out

    @property
    def looks_around(self) -> bool:
        """Whether it depends on the other windows of the picture."""
        return False

    @abstractmethod
    def __call__(self, seen: Attended) -> Tensor:
        """A·v, (B, heads, L, C)."""


def pairs_of(text: str) -> list[str]:
    """Which of q, k and v meet which; raises `UserError` where the text says something else.

    >>> pairs_of("qq kk")
    ['qq', 'kk']
    """
    pairs = text.split()
    if not pairs or not all(len(pair) == 2 and set(pair) <= set("qkv") for pair in pairs):
        raise UserError(f"{text!r}: pairs of q, k and v, such as qk or qq kk.")
    return pairs
