"""The patches without the CLS token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from clearclip.methods.stages.stage import Before
from clearclip.methods.trunk import Tokens


@dataclass(frozen=True, repr=False)
class PatchesOnly(Before):
    """In the last block patches attend to patches only; CLS and registers are neither keys nor queries."""

    alone: ClassVar[bool] = True

    def __call__(self, tokens: Tokens) -> Tokens:
        """The same tokens, of which only the patches take part."""
        return replace(tokens, alone=True)
