"""The CLS token added to every patch in token space (SC-CLIP, SFP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from clearclip.methods.stages.stage import After
from clearclip.methods.trunk import Tokens


@dataclass(frozen=True, repr=False)
class AddCls(After):
    """x ← x + w·x_CLS, x_CLS as the last block was given it, or the CLS of a stream beside it.

    Args:
        weight: w.
    """

    weight: float = 0.3
    needs_cls: ClassVar[bool] = True

    def __call__(self, x: Tensor, cls: Tensor, tokens: Tokens) -> Tensor:
        """Patches with the CLS in them, (B, N, D)."""
        return x + self.weight * cls
