"""What every head of a block gathers, before the output projection mixes the heads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from clearclip.models.backbone import BlockInput
from clearclip.models.block import Block


def head_outputs(block: Block, given: BlockInput) -> Tensor:
    """A·v of each head, as the output projection is given it, with the norm and the gate of models that have them.

    Args:
        block: of any family.
        given: what the block was called with, X_res (B, L, D).

    Returns:
        (B, heads, L, C) with C channels per head.

    >>> import torch, clearclip
    >>> model = clearclip.load("clip_tiny", random=True, device="cpu")
    >>> given = model.block_inputs(torch.zeros(1, 3, 64, 64), layers=[6])[6]
    >>> head_outputs(model.blocks[5], given).shape
    torch.Size([1, 3, 65, 32])
    """
    y = block.norm1(given.x)
    values = F.scaled_dot_product_attention(*block.qkv(y, given.rope))
    return block.gathered(values, y).unflatten(-1, (block.heads, -1)).transpose(1, 2)


def head_width(block: Block) -> int:
    """C, the channels of one head."""
    return block.attention_writer.module.in_features // block.heads
