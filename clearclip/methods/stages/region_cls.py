"""What CLS would say of every region alone (CorrCLIP)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.methods.regions import nearest, regions_of
from clearclip.methods.stages.stage import Beside
from clearclip.methods.trunk import Attended, Tokens, Trunk


@dataclass(frozen=True, repr=False)
class RegionCls(Beside):
    """x̃_i = c of i's region: a copy c of CLS goes through all blocks and listens to CLS and to its region's patches only.

    Args:
        weight: how much of it is added, behind the final norm.
    """

    weight: float = 0.5
    needs_cls: ClassVar[bool] = True
    takes_regions: ClassVar[bool] = True

    def layers(self, depth: int) -> list[int]:
        """All blocks."""
        return list(range(1, depth + 1))

    def joins_normed(self) -> bool:
        """Always."""
        return True

    def __call__(self, tokens: Tokens, attend: Callable[[Attended], Tensor]) -> tuple[Tensor, None]:
        """The copy of every patch's region; it is no stream of patches, so that no CLS belongs to it."""
        trunk, regions = tokens.trunk, regions_of(tokens, tokens.grid)
        own = torch.stack([image.unique(return_inverse=True)[1] for image in nearest(regions, trunk.grid)])
        copies = _copies(trunk, tokens.layer, own.flatten(1))  # (B, R, D)
        there = nearest(own, tokens.grid).flatten(1)
        x = copies.gather(1, there[..., None].expand(-1, -1, copies.shape[-1]))
        return x if tokens.elsewhere else F.pad(x, (0, 0, tokens.seen.prefix, 0)), None


def _copies(trunk: Trunk, last: int, regions: Tensor) -> Tensor:
    """One CLS per region after some block, of regions (B, N) that are counted from 0, (B, R, D)."""
    member = F.one_hot(regions).mT.bool()  # (B, R, N)
    heard = F.pad(member, (trunk.prefix, 0), value=True)[:, None]  # (B, 1, R, L)
    x = trunk.inputs[1].x[:, :1].expand(-1, member.shape[1], -1)
    for block, layer in zip(trunk.model.blocks, range(1, last + 1), strict=False):
        y, (stream, rope) = block.norm1(x), trunk.inputs[layer]
        q, _, _ = block.qkv(y)  # CLS has no place, so none of its copies has one
        _, k, v = block.qkv(block.norm1(stream), rope)
        x = x + block.output(F.scaled_dot_product_attention(q, k, v, attn_mask=heard), y)
        x = x + block.ffn(x)
    return x
