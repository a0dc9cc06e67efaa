"""Sources: their sum over the tokens is what the head adds."""

import pytest
import timm
import torch
from open_clip.model import CLIP

import clearclip
from analysis.attribution.parts import decompose
from analysis.attribution.readout import Readout
from analysis.attribution.sources import memory, sources
from clearclip.errors import UserError
from clearclip.methods.recipes import recipe
from tests.small_models import SQUARE, config, noisy, pictures, texts

HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return noisy(clearclip.wrap(CLIP(**config(3)).eval().requires_grad_(False), "clip", preprocessing=HALVES))


@pytest.mark.parametrize(
    "name", ["clip", "clearclip", "sclip", "maskclip", "clip layer=2", "clearclip alpha=2 affinity=vv"]
)
def test_sources_add_up_to_the_heads(clip, name):
    which, readout, images = recipe(name), Readout(clip, texts(clip)), pictures((24, 40))
    parts, patches = decompose(readout, images, which), [0, 7, 14]
    found = sources(readout, images, which, patches)
    assert len(found.heads) == len(set(found.heads)) > 3
    for i, head in enumerate(found.heads):
        expected = parts.values[:, patches, parts.components.index(head)]
        assert (found.values[:, i].sum(2) - expected).abs().max() < 1e-5
    assert found.values[0].numel() * 4 == memory(readout, which, len(patches), (24, 40))


@pytest.mark.parametrize("name", ["gem", "naclip", "itaclip", "clip cls_weight=1"])
def test_other_recipes_are_refused(clip, name):
    with pytest.raises(UserError, match="sources are told for"):
        sources(Readout(clip, texts(clip)), pictures(SQUARE), recipe(name), [0])


def test_models_that_mix_what_heads_gather_are_refused():
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0}
    module = timm.create_model("eva02_base_patch16_clip_224", **small).eval()
    model = clearclip.wrap(module, "eva", preprocessing=HALVES)
    with pytest.raises(UserError, match="no sum over tokens"):
        sources(Readout(model, torch.eye(48)[:2]), pictures(SQUARE), recipe("clip"), [0])
