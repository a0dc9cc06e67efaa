"""What heads gather, through the library's own output projection, is the X_attn that the library computes, in every family."""

import pytest
import timm
import torch
from open_clip.model import CLIP

import clearclip
from analysis.probes.heads import head_outputs, head_width
from analysis.probes.probe import Probe
from tests.small_models import close, config, noisy, pictures

HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "dynamic_img_size": True}
FAMILIES = {
    "open_clip": lambda: CLIP(**config(2)),
    "dino": lambda: timm.create_model("vit_tiny_patch16_224", **SMALL),
    "dinov2 with registers and LayerScale": lambda: timm.create_model("vit_small_patch14_reg4_dinov2", **SMALL),
    "dinov3, rotary": lambda: timm.create_model("vit_small_patch16_dinov3", **SMALL),
    "eva02, inner norm": lambda: timm.create_model("eva02_base_patch16_clip_224", **SMALL),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_through_the_output_projection_heads_are_x_attn(family):
    torch.manual_seed(0)
    module = FAMILIES[family]().eval().requires_grad_(False)
    model = noisy(clearclip.wrap(module, family, preprocessing=HALVES))
    images = pictures((24, 40))
    given = model.block_inputs(images)
    with torch.inference_mode(), Probe(model, features=["X_attn"], keep=True) as probe:
        model(images)
    for layer, block in enumerate(model.blocks, 1):
        heads = head_outputs(block, given[layer])  # (B, heads, L, C)
        assert heads.shape[1] == model.heads and heads.shape[3] == head_width(block)
        assert close(block.attention_writer(heads.transpose(1, 2).flatten(2)), probe[layer, "X_attn"])
