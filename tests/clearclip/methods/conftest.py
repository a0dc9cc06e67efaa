"""A CLIP and a vision model that are small enough for slow loops."""

import open_clip
import pytest
from small_models import config, noisy

from clearclip import load


@pytest.fixture(scope="module")
def registered():
    with pytest.MonkeyPatch.context() as patch:
        for layers in (6, 12):
            patch.setitem(open_clip.factory._MODEL_CONFIGS, f"tiny{layers}", config(layers))
        yield


@pytest.fixture(scope="module")
def clip(registered):
    return noisy(load("open_clip:tiny12", random=True, device="cpu"))


@pytest.fixture(scope="module")
def dino():
    """A small vision model whose patches differ: at random, all would look alike to it."""
    backbone = noisy(load("timm:test_vit", random=True, device="cpu"))
    backbone.vit.patch_embed.proj.weight.mul_(8)
    backbone.vit.norm.bias.zero_()
    return backbone
