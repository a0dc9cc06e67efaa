"""Which patches of an image are outliers: rules for `Repair`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.trunk import Tokens
from clearclip.written import Written


@dataclass(frozen=True, repr=False)
class Rule(Written, ABC):
    """One way to tell which patches are outliers."""

    def layers(self, depth: int) -> list[int]:
        """The blocks whose inputs it looks at, counted from 1, in a model of this depth."""
        return []

    @abstractmethod
    def __call__(self, tokens: Tokens) -> Tensor:
        """The outliers among the patches that the last block is given, (B, N) bool."""


@dataclass(frozen=True, repr=False)
class LocalOutliers(Rule):
    """score_i = mean over the k nearest j of d_k(i) / d_k(j), d_k the squared distance to the k-th nearest; highest share.

    Not the textbook's local outlier factor: its reach distance uses the patch's own d_k, as in SC-CLIP's code.

    Args:
        k: how many neighbors.
        share: which share of the patches are outliers; above that quantile of the scores, linearly interpolated.
    """

    k: int = 30
    share: float = 0.05

    def __post_init__(self) -> None:
        if self.k < 1 or not 0 < self.share < 1:
            raise UserError(f"{self!r}: k is at least 1, and share lies between 0 and 1.")

    def __call__(self, tokens: Tokens) -> Tensor:
        """The outliers, (B, N) bool; none where all patches are equal."""
        x = tokens.own.double()  # or differences of near patches would be lost
        distance = torch.cdist(x, x).square()  # (B, N, N)
        distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        k = min(self.k, x.shape[1] - 1)
        if k < 1:
            return torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        nearest = distance.topk(k, largest=False)  # (B, N, k)
        reach = nearest.values[..., -1]  # (B, N)
        around = reach[:, None].expand(-1, x.shape[1], -1).gather(2, nearest.indices)
        scores = (reach[..., None] / around).mean(2)  # 0 / 0 is NaN, and nothing is above NaN
        return scores > scores.quantile(1 - self.share, dim=1, keepdim=True)


@dataclass(frozen=True, repr=False)
class SeenByCls(Rule):
    """f·A[CLS, j] > A[j, j], A the mean over heads of the attention of the last block but one; of these the most seen.

    Args:
        count: how many patches at most, those with the highest A[CLS, j] (SFP: 10).
        factor: f; SFP's code has 1.5, which is .3 · 5.
    """

    count: int = 10
    factor: float = 1.5

    def layers(self, depth: int) -> list[int]:
        """The last block but one."""
        return [max(1, depth - 1)]

    def __call__(self, tokens: Tokens) -> Tensor:
        """The outliers, (B, N) bool."""
        trunk = tokens.trunk
        seen = trunk.attended(max(1, trunk.model.depth - 1))
        weights = (seen.q.float() @ seen.k.float().mT * seen.q.shape[-1] ** -0.5).softmax(-1).mean(1)  # (B, L, L)
        of_cls = weights[:, 0, trunk.prefix :]  # (B, N)
        candidates = self.factor * of_cls > weights.diagonal(dim1=1, dim2=2)[:, trunk.prefix :]
        most = of_cls.masked_fill(~candidates, -1).topk(min(self.count, of_cls.shape[1])).indices
        return candidates & torch.zeros_like(candidates).scatter(1, most, True)


@dataclass(frozen=True, repr=False)
class LargeNorms(Rule):
    """‖x_i‖ > times · median of the patches' norms of the same image.

    Args:
        times: how many medians; 2 finds the registers that large models write into patches.
    """

    times: float = 2.0

    def __call__(self, tokens: Tokens) -> Tensor:
        """The outliers, (B, N) bool."""
        norms = tokens.own.float().norm(dim=2)
        return norms > self.times * norms.median(1, keepdim=True).values


@dataclass(frozen=True, repr=False)
class ChannelShare(Rule):
    """max over some channels c of |x_c| / Σ|x| > times / D: a few channels carry the patch (RF-CLIP).

    Args:
        channels: the over-active channels; those of OpenAI's ViT-B/16 by default.
        times: how many times the share that every channel would have.
    """

    channels: tuple[int, ...] = (4, 162, 474)
    times: float = 5.0

    def __call__(self, tokens: Tokens) -> Tensor:
        """The outliers, (B, N) bool; raises `UserError` for channels that the model does not have."""
        x = tokens.own.float().abs()
        width = x.shape[2]
        if not self.channels or not all(0 <= channel < width for channel in self.channels):
            raise UserError(
                f"{self!r}: {tokens.trunk.model.name} has channels 0 … {width - 1}; name its over-active ones."
            )
        share = x[..., list(self.channels)].amax(2) / x.sum(2)
        return share > self.times / width


RULES = {kind.__name__: kind for kind in (ChannelShare, LargeNorms, LocalOutliers, SeenByCls)}
