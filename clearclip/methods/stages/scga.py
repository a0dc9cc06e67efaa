"""Patches of the whole picture averaged over those that resemble them (RADSeg's self-correlating global aggregation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.graph import mean_cosine
from clearclip.methods.stages.stage import Merged, Picture
from clearclip.methods.stages.whole import listened, scored, spliced
from clearclip.methods.trunk import Trunk
from clearclip.methods.windows import PatchLogits


@dataclass(frozen=True, repr=False)
class Scga(Merged):
    """x ← softmax(γ(S − mean S), entries < 0 → −∞)·x, S the cosine of all patches of the spliced windows.

    It stands behind the final norm and before the projection, where its authors have it: before what their backbone needs to
    be compared with texts.

    Args:
        gamma: the sharpness.
    """

    gamma: float = 10.0
    keeps: ClassVar[bool] = True
    anew: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.gamma <= 0:
            raise UserError(f"{self!r}: gamma is above 0.")

    def keep(self, x: Tensor, trunk: Trunk) -> Tensor:
        """The patches after the final norm, (B, D, rows, columns)."""
        return trunk.model.final_norm(x).mT.unflatten(2, trunk.grid_of(x))

    def __call__(self, logits: PatchLogits, picture: Picture) -> PatchLogits:
        """The logits of the averaged patches."""
        x = spliced(logits, [kept.float() for kept in logits.kept or []])  # (D, rows, columns)
        patches = x.flatten(1).T
        unit = F.normalize(patches, dim=1)
        averaged = listened(unit, patches, self.gamma, mean_cosine(unit))
        return scored(averaged.T.unflatten(1, x.shape[1:]), picture, logits)
