"""Scores spread over all patches of all windows of a picture (LPOSS)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.graph import inverse_root, precise, propagated
from clearclip.methods.stages.stage import Merged, Picture
from clearclip.methods.trunk import Trunk
from clearclip.methods.windows import PatchLogits
from clearclip.models.block import join_heads

AT_ONCE = 2**24  # cosines and distances between patches that are held at a time


@dataclass(frozen=True, repr=False)
class Propagate(Merged):
    """(I − α·Ŵ)·Z = (1 − α)·Y; w_ij = max(0, cos_ij)^γ · exp(−σ‖p_i − p_j‖) for the k nearest j of i, W ← W + Wᵀ without diagonal.

    Y are the scores of all patches of all windows, cos the cosine of v in the second model's last block, ‖p_i − p_j‖ the
    distance of patches in pixels of the resized picture, and Ŵ = D^-½·W·D^-½. A second model of another grid is resized to
    the patches that have scores.

    Args:
        k: how many neighbors, the patch itself counted, chosen by the cosine alone; all patches where there are fewer.
        gamma: γ.
        sigma: σ, for each pixel.
        alpha: α.
        steps: iterations of conjugate gradients; so few that they are a part of the method.
    """

    k: int = 400
    gamma: float = 3.0
    sigma: float = 0.01
    alpha: float = 0.95
    steps: int = 10
    keeps: ClassVar[bool] = True
    needs_guide: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.k < 1 or self.steps < 1 or not 0 <= self.alpha < 1:
            raise UserError(f"{self!r}: k and steps are at least 1, and alpha lies between 0 and 1, below 1.")

    def keep(self, x: Tensor, trunk: Trunk) -> Tensor:
        """v of the second model's patches, its heads side by side, (B, D', rows, columns)."""
        v = join_heads(trunk.second.qkv[2])[:, trunk.second.model.prefix_tokens :]
        return v.mT.unflatten(2, trunk.second.grid)

    def __call__(self, logits: PatchLogits, picture: Picture) -> PatchLogits:
        """The same windows with scores that near and similar patches share."""
        shapes = [scores.shape[-2:] for _, scores in logits.windows]
        seen = [_on(kept.float(), shape).flatten(1).T for kept, shape in zip(logits.kept or [], shapes, strict=True)]
        places = [torch.cartesian_prod(*logits.centers(i)) for i in range(len(shapes))]
        graph = self._graph(F.normalize(torch.cat(seen), dim=1), torch.cat(places))
        scores = torch.cat([scores.flatten(1).T for _, scores in logits.windows])  # (N, Q)
        spread = propagated(graph, scores, self.alpha, self.steps)
        parts = spread.split([shape.numel() for shape in shapes])
        windows = [
            (box, part.T.unflatten(1, shape))
            for (box, _), part, shape in zip(logits.windows, parts, shapes, strict=True)
        ]
        return replace(logits, windows=windows, kept=None)

    def _graph(self, unit: Tensor, places: Tensor) -> sparse.csr_array:
        """Ŵ of patches at length 1 (N, D) and their places in pixels (N, 2)."""
        count, k = len(unit), min(self.k, len(unit))
        weights, neighbors = [], []
        for own, position in zip(
            unit.split(max(1, AT_ONCE // count)), places.split(max(1, AT_ONCE // count)), strict=True
        ):
            cosines, nearest = (own @ unit.T).topk(k)  # (n, k)
            distances = (position[:, None] - places[nearest]).norm(dim=2)
            weights.append(precise(cosines).clamp(min=0) ** self.gamma * precise(-self.sigma * distances).exp())
            neighbors.append(nearest)
        rows = torch.arange(count).repeat_interleave(k).numpy()
        values, columns = torch.cat(weights).flatten().cpu().numpy(), torch.cat(neighbors).flatten().cpu().numpy()
        one_way = sparse.csr_array((values, (rows, columns)), shape=(count, count))
        graph = one_way + one_way.T  # a mutual pair counts twice
        graph.setdiag(0)
        root = sparse.diags_array(inverse_root(graph.sum(1)))
        return (root @ graph @ root).tocsr()


def _on(maps: Tensor, shape: torch.Size) -> Tensor:
    """Maps (D', rows, columns) on another grid."""
    if maps.shape[-2:] == shape:
        return maps
    return F.interpolate(maps[None], size=tuple(shape), mode="bilinear", align_corners=False)[0]
