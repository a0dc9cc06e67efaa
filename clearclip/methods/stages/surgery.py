"""Feature surgery: what all names share is taken out of their scores (CLIP Surgery)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.stages.stage import Scoring
from clearclip.methods.trunk import Trunk


@dataclass(frozen=True, repr=False)
class Surgery(Scoring):
    """score_n = w_n·s_n − mean_m(w_m·s_m), w_n = p_n / mean(p), p = softmax(t · cosine of the image embedding and the names).

    Every name is a text of its own, also where several belong to one class, for the method knows texts only. A single name
    has no others to be compared with: there score = patch · (text − text of the prompts without a name).

    Args:
        temperature: t.
    """

    temperature: float = 2.0
    needs_cls: ClassVar[bool] = True
    needs_embedding: ClassVar[bool] = True
    needs_empty: ClassVar[bool] = True

    def __call__(self, scores: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        """Scores without what the names share, (B, Q, N)."""
        if scores.shape[1] == 1:
            if trunk.empty is None:
                raise UserError(
                    f"{self!r}: one name alone is compared with prompts without a name, which takes a model with a text tower."
                )
            return scores - (features @ trunk.empty)[:, None]
        similar = trunk.embedding() @ trunk.texts.mT  # type: ignore[union-attr]  # (B, 1, Q)
        p = (self.temperature * similar).softmax(-1).mT  # (B, Q, 1)
        weighted = p / p.mean(1, keepdim=True) * scores
        return weighted - weighted.mean(1, keepdim=True)
