"""Several sets of prompts for one set of names, each an expert of one class: at every pixel the surest of them speaks (FLOSS).

Expert k says "class k" where its own softmax has a name of class k highest. Of the experts that do so at a pixel, the one with
the highest score decides there; where none does, the usual prompts decide. From the paper of Benigmim et al. (arXiv 2504.10487).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
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

    def pixels(self, size: tuple[int, int], at_once: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Columns of a picture of this size, and at every pixel the cosines of whoever decides there, (columns, H, names)."""
        for columns, cosines in self.base.pixels(size, at_once):
            asked = cosines.unflatten(-1, (-1, len(self)))  # (columns, H, 1 + experts, names)
            yield columns, asked.take_along_dim(self._speakers(asked)[..., None, None], 2).squeeze(2)

    def maps(self, names: slice = slice(None)) -> Tensor:
        """The logits of some names at every pixel of the picture, (names, H, W)."""
        return torch.cat([cosines for _, cosines in self.pixels(self.size)]).permute(2, 1, 0)[names]

    def _speakers(self, asked: Tensor) -> Tensor:
        """Who decides at every pixel, 0 for the usual prompts and k + 1 for the expert of class k, (…, 1 + experts, Q) → (…)."""
        score, name = (asked[..., 1:, :] * TEMPERATURE).softmax(-1).max(-1)  # (…, experts)
        own = self.owner[name] == torch.arange(score.shape[-1], device=name.device)
        surest, expert = score.where(own, 0).max(-1)
        return (expert + 1).where(surest > 0, 0)


def of_experts(base: PatchLogits, size: tuple[int, int], owner: Tensor) -> PatchLogits:
    """The logits of a picture of this size from those of the usual prompts and of all experts; see `ExpertLogits`."""
    return ExpertLogits(base.windows, size, base.patch, base.norms, base.kept, base=base, owner=owner)
