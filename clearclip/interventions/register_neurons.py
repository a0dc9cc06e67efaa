"""Which neurons write outlier tokens: those that test-time registers take over (Jiang et al. 2025, arXiv 2506.08010)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

import torch
from torch import Tensor

from clearclip.errors import UserError
from clearclip.models.backbone import Backbone


@torch.inference_mode()
def find_register_neurons(
    model: Backbone, images: Iterable[Tensor], count: int = 20, times: float = 1.5, layer: int | None = None
) -> tuple[tuple[int, int], ...]:
    """The neurons with the largest mean |activation| at outlier patches, over some pictures.

    Outliers of large models are several times as long as the median patch. Those of DINOv2 ViT-S/14 are at most twice as long, and
    the same neurons write them: at 1.5 times the rule finds them, and twenty neurons hold them (docs/guide/peaks.md).

    Args:
        model: any.
        images: normalized pictures (3, H, W), one after the other.
        count: how many neurons.
        times: a patch is an outlier if it is more than so many times as long as the picture's median patch. Where outliers
            are far longer, 3 leaves out what is merely long.
        layer: after which layer patches are measured; by default the last but one. Only neurons up to there are looked at.

    Returns:
        (layer, neuron), the layer counted from 1, strongest first.

    Raises:
        UserError: no picture has an outlier.
    """
    last = model.depth - 1 if layer is None else model.layers([layer])[0]
    total: list[Tensor] = []
    seen = 0
    for image in images:
        with ExitStack() as stack:
            activations: list[Tensor] = []  # of each layer (1, L, M)
            for block in model.blocks[:last]:
                stack.enter_context(block.ffn_writer.watched(activations.append))
            behind = model.block_inputs(image[None], [last + 1])[last + 1].x if last < model.depth else None
            if behind is None:
                raise UserError(f"layer {last}: outliers are looked for after one of the layers 1 … {model.depth - 1}.")
        lengths = behind[0, model.prefix_tokens :].float().norm(dim=-1)  # (N,)
        outliers = (lengths > times * lengths.median()).nonzero()[:, 0] + model.prefix_tokens
        if len(outliers):
            means = [given[0, outliers].float().abs().mean(0) for given in activations]  # of each layer (M,)
            total = [a + b for a, b in zip(total, means, strict=True)] if total else means
            seen += 1
    if not seen:
        raise UserError(
            f"{model.name}: no patch after layer {last} is {times:g} times as long as the median patch of its picture, so there is "
            "no outlier whose neurons a register could take over. Look at it with clearclip peaks."
        )
    scores, width = torch.cat(total), len(total[0])
    best = scores.topk(min(count, len(scores))).indices.tolist()
    return tuple((i // width + 1, i % width) for i in best)
