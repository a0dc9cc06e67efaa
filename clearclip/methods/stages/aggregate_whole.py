"""Patches of the whole picture averaged once over those that resemble them to a second model (Trident, without SAM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.methods.stages.stage import Merged, Picture
from clearclip.methods.stages.whole import scored, spliced
from clearclip.methods.trunk import Guide, Trunk
from clearclip.methods.windows import PatchLogits

AT_ONCE = 2**23  # similarities of all heads that are held at a time


@dataclass(frozen=True, repr=False)
class AggregateWhole(Merged):
    """x ← rownorm(W)·x, W_ij = mean over heads of A_ij·[C_ij > min(f · mean C_i, most)], for windows spliced to one map.

    Windows are spliced before the final norm and resized to the second model's grid of the whole picture. There A is the
    attention of its last block, patches to patches, and C the cosine of its v, both for each head; mean C_i is over heads and
    columns. Trident's authors take both from SAM; here any second model gives them.

    Args:
        factor: f; the authors take 3 for Cityscapes.
        most: the highest threshold.
        negative: what a threshold below 0 becomes, None to leave it; the authors take .6 for Cityscapes and ADE20K.
    """

    factor: float = 1.2
    most: float = 0.9
    negative: float | None = None
    keeps: ClassVar[bool] = True
    anew: ClassVar[bool] = True
    needs_guide: ClassVar[bool] = True

    def keep(self, x: Tensor, trunk: Trunk) -> Tensor:
        """The patches, (B, D, rows, columns)."""
        return x.mT.unflatten(2, trunk.grid_of(x))

    def __call__(self, logits: PatchLogits, picture: Picture) -> PatchLogits:
        """The logits of the picture on the second model's grid."""
        guide, model = picture.second, picture.model
        x = spliced(logits, [kept.float() for kept in logits.kept or []])  # (D, rows, columns)
        x = F.interpolate(x[None], size=guide.grid, mode="bilinear", align_corners=False)[0]
        patches = self._averaged(x.flatten(1).T, guide)
        with model.autocast():
            normed = model.final_norm(patches[None].to(model.dtype))[0]
        return scored(normed.T.unflatten(1, guide.grid), picture, logits)

    def _averaged(self, x: Tensor, guide: Guide) -> Tensor:
        """rownorm(W)·x for patches (N, D); W is never held as a whole."""
        q, k, v = (part[0, :, guide.model.prefix_tokens :].float() for part in guide.qkv)  # (heads, N, C)
        unit = F.normalize(v, dim=2)
        thresholds = self.factor * (unit @ unit.mean(1)[..., None]).mean(0)  # (N, 1)
        if self.negative is not None:
            thresholds = torch.where(thresholds < 0, self.negative, thresholds)
        thresholds = thresholds.clamp(max=self.most)
        parts = []
        for rows in torch.arange(len(x), device=x.device).split(max(1, AT_ONCE // (len(q) * len(x)))):
            attention = (q[:, rows] @ k.mT * q.shape[2] ** -0.5).softmax(2)  # (heads, n, N)
            weights = attention.where(unit[:, rows] @ unit.mT > thresholds[rows], 0).mean(0)
            parts.append(weights / weights.sum(1, keepdim=True) @ x)
        return torch.cat(parts)
