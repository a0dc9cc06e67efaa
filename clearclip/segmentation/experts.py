"""Several sets of prompts for one set of names, each an expert of one class: at every pixel the surest of them speaks (FLOSS).

Expert k says "class k" where its own softmax has a name of class k highest. Of the experts that do so at a pixel, the one with
the highest score decides there; where none does, the usual prompts decide. From the paper of Benigmim et al. (arXiv 2504.10487).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.methods.windows import PatchLogits
from clearclip.segmentation.labelling import TEMPERATURE


@dataclass(frozen=True, kw_only=True)
class ExpertLogits(PatchLogits):
    """The logits of a picture's names at its own size, at every pixel those of the expert that speaks there.

    Args:
        base: the logits of the usual prompts, then those of expert 0, of expert 1, …, each of all names.
        owner: the class of each name, (Q,).
    """

    base: PatchLogits
    owner: Tensor

    def __len__(self) -> int:
        """How many names there are."""
        return len(self.owner)

    def maps(self, names: slice = slice(None)) -> Tensor:
        """The logits of some names at every pixel of the picture, (names, H, W); one expert after another is looked at."""
        result = self._maps(0, names)
        for speaker in self.speakers.unique().tolist():
            if speaker:
                result = torch.where(self.speakers == speaker, self._maps(speaker, names), result)
        return result

    @cached_property
    def speakers(self) -> Tensor:
        """Who decides at every pixel, 0 for the usual prompts and k + 1 for the expert of class k, (H, W) int64."""
        speakers = torch.zeros(self.size, dtype=torch.int64, device=self.owner.device)
        surest = torch.zeros(self.size, device=self.owner.device)
        for k in range(int(self.owner.max()) + 1):
            score, name = self._maps(k + 1).mul_(TEMPERATURE).softmax(0).max(0)
            speaks = (self.owner[name] == k) & (score > surest)
            speakers[speaks], surest[speaks] = k + 1, score[speaks]
        return speakers

    def _maps(self, speaker: int, names: slice = slice(None)) -> Tensor:
        first, last, _ = names.indices(len(self))
        maps = self.base.maps(slice(first + speaker * len(self), last + speaker * len(self)))
        return F.interpolate(maps[None], size=self.size, mode="bilinear", align_corners=False)[0]


def of_experts(base: PatchLogits, size: tuple[int, int], owner: Tensor) -> PatchLogits:
    """The logits of a picture of this size from those of the usual prompts and of all experts; see `ExpertLogits`."""
    return ExpertLogits(base.windows, size, base.patch, base.norms, base.kept, base=base, owner=owner)
