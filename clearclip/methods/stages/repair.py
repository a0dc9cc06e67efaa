"""Outlier patches replaced by what stands around them (SC-CLIP, SFP, RF-CLIP)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.stages.outliers import LocalOutliers, Rule
from clearclip.methods.stages.stage import Before
from clearclip.methods.trunk import Tokens, after


@dataclass(frozen=True, repr=False)
class Repair(Before):
    """x_i ← mean of the patches among its 3 × 3 neighbors that are no outliers, for every outlier i.

    Args:
        rule: which patches are outliers.
        also: blocks of a 12-block model whose outputs are repaired at the same positions.
        surrounded: what becomes of an outlier that has outliers around it only: "kept" or "zero".
    """

    rule: Rule = field(default_factory=LocalOutliers)
    also: tuple[int, ...] = ()
    surrounded: str = "kept"

    def __post_init__(self) -> None:
        if self.surrounded not in ("kept", "zero"):
            raise UserError(f"{self!r}: surrounded is kept or zero.")

    def layers(self, depth: int) -> list[int]:
        """What the rule looks at, and the blocks behind those that are repaired, too."""
        return [*self.rule.layers(depth), *(after(layer, depth) + 1 for layer in self.also)]

    def __call__(self, tokens: Tokens) -> Tokens:
        """The tokens without outliers."""
        outliers, depth = self.rule(tokens), tokens.trunk.model.depth
        others = {after(layer, depth): tokens.patches(after(layer, depth)) for layer in self.also}
        return tokens.change(
            self._filled(tokens.own, outliers, tokens.trunk.grid),
            {layer: self._filled(patches, outliers, tokens.trunk.grid) for layer, patches in others.items()},
        )

    def _filled(self, x: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches (B, N, D), whose outliers (B, N) are filled."""
        good = (~outliers).to(x.dtype)[..., None]  # (B, N, 1)
        total, count = _around(x * good, grid), _around(good, grid)
        filled = total / count.clamp(min=1)
        if self.surrounded == "kept":
            filled = torch.where(count == 0, x, filled)
        return torch.where(outliers[..., None], filled, x)


def _around(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """The sum of the up to eight neighbors of every patch, (B, N, D)."""
    padded = F.pad(x.unflatten(1, grid), (0, 0, 1, 1, 1, 1))  # (B, rows + 2, columns + 2, D)
    rows, columns = grid
    shifts = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    return torch.stack([padded[:, y : y + rows, x : x + columns] for y, x in shifts]).sum(0).flatten(1, 2)
