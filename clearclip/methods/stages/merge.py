"""Regions that belong together to the second model (CorrCLIP)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from clearclip.methods.products.correlation import correlated
from clearclip.methods.regions import regions_of
from clearclip.methods.stages.stage import Before
from clearclip.methods.trunk import Tokens


@dataclass(frozen=True, repr=False)
class MergeRegions(Before):
    """Regions a and b become one where max C − C_ab ≤ distance, C the cosines of their mean features, and so do chains of them.

    The features are q + k of the second model's last block, normalized. The smallest label of a window is no region.

    Args:
        distance: how far two regions may be from each other.
    """

    distance: float = 0.2
    needs_guide: ClassVar[bool] = True
    takes_regions: ClassVar[bool] = True

    def __call__(self, tokens: Tokens) -> Tokens:
        """The tokens with fewer regions."""
        if tokens.trunk.regions is None:
            return tokens
        guide = tokens.seen.guide
        features = F.normalize(correlated(tokens.trunk, guide).float(), dim=-1)
        merged = [self._merged(*image) for image in zip(regions_of(tokens, guide.grid), features, strict=True)]
        return replace(tokens, merged=torch.stack(merged))

    def _merged(self, regions: Tensor, features: Tensor) -> Tensor:
        """Fewer regions (h', w') of one image, whose features are (h'w', D')."""
        labels, index = regions.unique(return_inverse=True)
        if len(labels) <= 2:
            return regions
        sums = features.new_zeros(len(labels), features.shape[1]).index_add_(0, index.flatten(), features)
        unit = F.normalize(sums[1:], dim=-1)
        cosines = unit @ unit.mT
        groups = connected_components((cosines.max() - cosines <= self.distance).cpu().numpy(), directed=False)[1]
        return F.pad(torch.from_numpy(groups).long() + 1, (1, 0)).to(index.device)[index]
