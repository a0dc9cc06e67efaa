"""A second stream of earlier blocks' outputs through the same last block (SC-CLIP, SFP, CorrCLIP)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.affinity import attention_output, parse, parts
from clearclip.methods.products.product import Product
from clearclip.methods.stages.stage import Beside
from clearclip.methods.trunk import Attended, Tokens, after
from clearclip.models.backbone import Backbone


@dataclass(frozen=True, repr=False)
class Branch(Beside):
    """x̃ = Σ or mean of the outputs of several blocks; Proj(A·v(x̃)) is added, with A of the recipe or one of its own.

    Args:
        blocks: which blocks of a 12-block model, counted from 1; in another one as far up.
        how: "sum" or "mean".
        affinity: as in `Recipe`; empty for the recipe's own. q and k are always those of the first stream.
        normed: both streams go through the final norm before they are added.
    """

    blocks: tuple[int, ...] = (4, 5, 6, 7, 8, 9, 10)
    how: str = "sum"
    affinity: str = ""
    normed: bool = False

    def __post_init__(self) -> None:
        if self.how not in ("sum", "mean") or not self.blocks:
            raise UserError(f"{self!r}: at least one block, and how is sum or mean.")
        self._products  # noqa: B018  an affinity that cannot be read is refused here

    def layers(self, depth: int) -> list[int]:
        """The blocks behind those that it adds up, and what its own affinity looks at."""
        own = [layer for product in self._products for layer in product.layers(depth)]
        return [*(layer + 1 for layer in self._blocks(depth)), *own]

    def check(self, model: Backbone, guide: Backbone | None) -> None:
        """Refuse what its own affinity refuses."""
        for product in self._products:
            product.check(model, guide)

    @property
    def _products(self) -> list[Product]:
        return parts(self.affinity) if self.affinity else []

    def _blocks(self, depth: int) -> list[int]:
        return [after(block, depth) for block in self.blocks]

    def joins_normed(self) -> bool:
        """As its field says."""
        return self.normed

    def __call__(self, tokens: Tokens, attend: Callable[[Attended], Tensor]) -> tuple[Tensor, Tensor]:
        """The second stream's patches and its CLS."""
        trunk = tokens.trunk
        outputs = torch.stack([trunk.output(block) for block in self._blocks(trunk.model.depth)])
        x = outputs.sum(0) if self.how == "sum" else outputs.mean(0)  # (B, L, D)
        own, other = tokens.seen, tokens.attended(x)
        seen = replace(own, v=other.v, y=other.y)
        out = attention_output(seen, parse(self.affinity)) if self.affinity else attend(seen)
        return out, x[:, :1]
