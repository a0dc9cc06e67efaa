"""What several recipes have in common is computed once, and each of them gets what it gets alone."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from clearclip import load
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import recipe
from clearclip.methods.stages import Propagate
from clearclip.methods.trunk import Guide
from clearclip.methods.windows import Windows
from clearclip.segmentation.segmenter import Segmenter

RECIPES = (
    "maskclip",
    "lposs",
    "lposs+",
    "maskclip+pamr",
    "sc_clip",
    "sc_clip+pamr",
    "corrclip",
    "proxyclip",
    "trident",
)
WINDOWS = Windows(64, 128, 64, 32)


@pytest.fixture(scope="module")
def models():
    return load("clip_tiny", device="cpu"), load("dino_tiny", device="cpu")


@pytest.fixture(scope="module")
def together(models):
    return logits(models, *RECIPES)


@pytest.fixture
def calls(monkeypatch):
    """How often each of a few steps runs from here on."""
    counted = Counter()

    def count(owner, name):
        original = getattr(owner, name)

        def step(*given):
            counted[name] += 1
            return original(*given)

        monkeypatch.setattr(owner, name, step)

    count(DenseEncoder, "_features")
    count(Propagate, "_graph")
    for name in ("features", "qkv"):  # cached properties: what counts is how often they are computed
        prop = Guide.__dict__[name]

        def compute(guide, original=prop.func, name=name):
            counted[name] += 1
            return original(guide)

        monkeypatch.setattr(prop, "func", compute)
    return counted


def logits(models, *recipes):
    clip, dino = models
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 100, 3), np.uint8))
    needed = dino if any(needs_guide(name) for name in recipes) else None
    segmenter = Segmenter(clip, ["sky", "grass", "tree"], recipes, windows=WINDOWS, prompts="photo", proxy=needed)
    (by_recipe,) = segmenter.logits([picture])
    return by_recipe


def needs_guide(name):
    return recipe(name).needs_guide


def test_each_step_runs_once_for_all_recipes(models, calls):
    assert len(WINDOWS.boxes(*WINDOWS.resized(64, 100))) == 3  # which go through the model together
    logits(models, *RECIPES)
    assert calls["_features"] == 5  # MaskCLIP's four, SC-CLIP's two, and one each
    assert calls["_graph"] == 1  # LPOSS+ goes on where LPOSS ends
    assert calls["features"] == 2  # ProxyCLIP and Trident share them; Trident first wants their mean over all windows
    assert calls["qkv"] == 2  # LPOSS and CorrCLIP share them; Trident looks at the whole picture


@pytest.mark.parametrize("name", RECIPES)
def test_shared_steps_give_what_each_recipe_gives_alone(models, together, name):
    alone = logits(models, name)[name]
    for (box, ours), (other, theirs) in zip(together[name].windows, alone.windows, strict=True):
        assert box == other and torch.equal(ours, theirs)
