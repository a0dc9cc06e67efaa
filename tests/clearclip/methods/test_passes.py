"""Recipes on a pass that is kept: the numbers of a pass of their own, and no second run of the trunk."""

import pytest
import torch
from PIL import Image
from small_models import OBLONG, SQUARE, pictures

import clearclip
from clearclip.interventions import Heads
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.passes import Passes
from clearclip.methods.stages.intervene import Intervene
from clearclip.methods.windows import Windows


@pytest.fixture
def model():
    return clearclip.load("clip_tiny", device="cpu")


def counted(model):
    """How often the trunk has run, in a list that grows."""
    runs = []
    model.blocks[0].module.register_forward_hook(lambda *_: runs.append(1))
    return runs


@pytest.mark.parametrize(
    "recipe", ["clearclip", "clip", "gem resize_positions=antialias", "clearclip residual=yes alpha=3 beta=0.1"]
)
def test_a_kept_pass_gives_the_same_bits(model, recipe):
    images, passes = pictures(SQUARE), Passes()
    DenseEncoder(model, ["maskclip"], passes=passes)(images)
    own = DenseEncoder(model, [recipe])(images)
    kept = DenseEncoder(model, [recipe], passes=passes)(images)
    assert torch.equal(own[recipe], kept[recipe])


def test_the_trunk_runs_once_whatever_is_changed(model):
    runs, passes, picture = counted(model), Passes(), Image.effect_noise((100, 64), 80).convert("RGB")
    for alpha in (0.5, 1.0, 2.0):
        mine = clearclip.Recipe("mine", "qq", ffn=False, alpha=alpha)
        segmenter = clearclip.Segmenter(
            model, "cat, star", mine, windows=Windows.of_side(64), prompts="photo", passes=passes
        )
        result = segmenter(picture)
    assert len(runs) == 1
    alone = clearclip.Segmenter(model, "cat, star", mine, windows=Windows.of_side(64), prompts="photo")(picture)
    assert len(runs) == 2 and (alone.scores == result.scores).all()


def test_a_second_model_is_kept_beside_the_first(model):
    dino = clearclip.load("dino_tiny", device="cpu")
    runs, passes, images = counted(dino), Passes(), pictures((64, 64))
    first, again = (DenseEncoder(model, ["proxyclip"], dino, passes)(images)["proxyclip"] for _ in range(2))
    assert len(runs) == 1 and torch.equal(first, again)
    assert torch.equal(first, DenseEncoder(model, ["proxyclip"], dino)(images)["proxyclip"])


def test_other_images_are_seen_and_the_oldest_are_forgotten(model):
    runs, passes = counted(model), Passes(most=1)
    for images in (pictures(SQUARE), pictures(OBLONG), pictures(SQUARE)):
        kept = passes.block_inputs(model, images)
        own = model.block_inputs(images)
        assert all(torch.equal(kept[layer].x, own[layer].x) for layer in range(1, 7))
    assert len(runs) == 6


def test_images_that_are_written_into_are_other_images(model):
    passes, images = Passes(), pictures(SQUARE)
    before = passes.block_inputs(model, images)[6].x
    images.neg_()
    assert not torch.equal(passes.block_inputs(model, images)[6].x, before)


def test_what_is_used_stays(model):
    runs, passes, wanted = counted(model), Passes(most=2), pictures(SQUARE)
    for shift in range(1, 4):
        passes.block_inputs(model, wanted)
        passes.block_inputs(model, wanted + shift)
    assert len(runs) == 1 + 3


def test_an_intervention_has_a_pass_of_its_own(model):
    passes, images = Passes(), pictures(SQUARE)
    DenseEncoder(model, ["clip"], passes=passes)(images)
    changed = clearclip.Recipe("changed", stages=(Intervene(Heads(2, (1, 2))),))
    kept = DenseEncoder(model, [changed], passes=passes)(images)["changed"]
    assert torch.equal(kept, DenseEncoder(model, [changed])(images)["changed"])
    assert not torch.equal(kept, DenseEncoder(model, ["clip"])(images)["clip"])
