"""Protocols: their numbers, what a run under each does, and what a result says of it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from commands import here
from plain_labels import plain_scores, same_labels

import clearclip
from clearclip.datasets import load
from clearclip.errors import UserError
from clearclip.evaluation import protocol as protocols
from clearclip.evaluation import table
from clearclip.evaluation.protocol import PROTOCOLS, Level, notes, of_dataset
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.methods.titles import AUTHORS_PROTOCOL
from clearclip.methods.windows import PatchLogits, Windows
from clearclip.segmentation.labelling import class_labels

LARGE = SimpleNamespace(image_size=224)
QUIET = {"prompts": "photo", "progress": False}


@pytest.fixture(scope="module")
def tiny():
    return clearclip.load("clip_tiny")


@pytest.mark.parametrize(
    "name, usual, others",
    [
        ("clearclip", (448, 2048, 448, 224), {"cityscapes": (448, 2048, 224, 224)}),
        ("sclip", (336, 2048, 224, 112), {"cityscapes": (560, 2048, 224, 112)}),
        ("proxyclip", (336, 2048, 336, 112), {"ade20k": (448, 2048, 336, 112), "cityscapes": (448, 2048, 224, 112)}),
        ("trident", (448, 2048, 336, 224), {"cityscapes": (688, 2048, 336, 224)}),
    ],
)
def test_windows_of_every_data_set_and_in_proportion_for_small_models(name, usual, others):
    for dataset in ("voc20", "voc21", "context60", "ade20k", "cityscapes", "camvid", "mine"):
        assert PROTOCOLS[name].windows(dataset, LARGE) == Windows(*others.get(dataset, usual))
        small = PROTOCOLS[name].windows(dataset, SimpleNamespace(image_size=32))
        assert small == Windows(*(size // 7 for size in others.get(dataset, usual)))


def test_thresholds_and_scales():
    expected = {
        ("clearclip", "clearclip"): [(0.5, 50), (0.15, 50), (0.4, 50)],
        ("clearclip", "clip"): [(0.2, 50), (0.15, 50), (0.4, 50)],
        ("sclip", "sclip"): [(0.1, 65), (0.1, 50), (0.1, 50)],
        ("sclip", "naclip"): [(0.1, 40)] * 3,
        ("sclip", "sc_clip"): [(0.15, 50), (0.15, 40), (0.35, 55)],
        ("proxyclip", "clearclip"): [(0.2, 40), (0.15, 40), (0.25, 40)],
        ("trident", "clearclip"): [(0.2, 40), (0.15, 40), (0.25, 40)],
    }
    for (name, recipe), levels in expected.items():
        own = [PROTOCOLS[name].level(dataset, RECIPES[recipe]) for dataset in ("voc21", "context60", "coco_object")]
        assert own == levels
        assert not any(PROTOCOLS[name].level(dataset, RECIPES[recipe]).threshold for dataset in ("voc20", "camvid"))


def test_a_recipe_with_further_stages_has_the_levels_of_its_method():
    known = RECIPES["sc_clip"]
    assert protocols.method(replace(known, name="mine", stages=(*known.stages, known.stages[0]))) == "sc_clip"
    assert protocols.method(replace(known, stages=known.stages[:-1])) == ""
    assert protocols.method(Recipe("x", "qq + kk + vv + identity")) == ""
    assert {name.partition(" with ")[0] for name in AUTHORS_PROTOCOL.values()} == set(PROTOCOLS)


def test_the_scale_is_that_of_the_softmax_and_changes_no_label_without_a_threshold():
    maps = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0)) / 20
    logits, owner = PatchLogits([((0, 0, 32, 48), maps)], (32, 48), 8), torch.tensor([0, 1, 1, 2, 3])
    scores = plain_scores(logits, (20, 30), owner, 65.0)
    level = float(scores.amax(0).median())
    assert same_labels(class_labels(logits, (20, 30), owner, level, 65.0), scores, level)
    assert torch.equal(class_labels(logits, (20, 30), owner, scale=65.0), class_labels(logits, (20, 30), owner))


def test_a_result_keeps_its_protocol_and_says_it_beside_its_numbers(tiny):
    scenes = load("scenes", count=2)
    ours, theirs = (
        clearclip.evaluate(tiny, scenes, ["clearclip", "sclip"], protocol=name, **QUIET)
        for name in ("clearclip", "sclip")
    )
    plain = clearclip.evaluate(tiny, scenes, ["clearclip", "sclip"], **QUIET)
    assert ours.protocol.item() == plain.protocol.item() == "clearclip" and theirs.protocol.item() == "sclip"
    assert np.array_equal(ours.confusion, plain.confusion) and not np.array_equal(ours.confusion, theirs.confusion)
    by_hand = clearclip.evaluate(
        tiny, scenes, ["clearclip", "sclip"], windows=PROTOCOLS["sclip"].windows("scenes", tiny), **QUIET
    )
    assert np.array_equal(theirs.confusion, by_hand.confusion)
    assert by_hand.protocol.item() == "clearclip with other windows"
    assert table.report(theirs).startswith("mIoU in percent, protocol sclip, 2 of scenes")
    assert set(table.tidy(theirs).protocol) == {"sclip"}
    joined = table.merge(
        [theirs, clearclip.evaluate(tiny, load("scenes_things", count=1), ["clip"], protocol="sclip", **QUIET)]
    )
    assert joined.protocol.values.tolist() == ["sclip", "sclip"] and of_dataset(joined) == "sclip"
    assert "of the protocol clearclip" in notes(theirs)[1] and "Not done here: " in notes(theirs)[0]
    assert notes(ours) == ["sclip: the authors' own numbers are of the protocol sclip"]


def test_a_threshold_of_ones_own_is_named_and_compared_at_the_protocols_scale(tiny):
    scenes = load("scenes_background", count=1)
    result = clearclip.evaluate(tiny, scenes, "clearclip", protocol="trident", threshold=0.2, **QUIET)
    assert result.protocol.item() == "trident with threshold 0.2"
    assert (result.threshold.item(), result.scale.item()) == Level(0.2, 40.0)


def test_the_command_prints_its_protocol_and_measures_anew_under_another_one(tmp_path):
    command = ("clearclip.evaluate", "--limit", "1", "--recipe", "clearclip", "sc_clip", "--prompts", "photo")
    first = here(*command, cwd=tmp_path)
    assert "mIoU in percent, protocol clearclip, 1 of scenes" in first.stdout
    assert "sc_clip: the authors' own numbers are of the protocol sclip" in first.stdout
    second = here(*command, "--protocol", "sclip", cwd=tmp_path)
    assert "protocol sclip, 1 of scenes" in second.stdout and "holds this already" not in second.stdout
    assert "protocol sclip. Not done here: " in second.stdout
    wrong = here(*command, "--protocol", "mine", cwd=tmp_path)
    assert wrong.returncode == 2 and "choose from clearclip, sclip, proxyclip, trident" in wrong.stderr


def test_an_unknown_protocol_is_refused_with_those_there_are(tiny):
    with pytest.raises(UserError, match="'mine'; choose from clearclip, sclip, proxyclip, trident"):
        clearclip.evaluate(tiny, load("scenes", count=1), "clip", protocol="mine")


def test_results_of_older_files_are_of_clearclips_protocol():
    assert of_dataset(xr.Dataset()) == "clearclip"
    assert of_dataset(xr.Dataset(coords={"protocol": ("dataset", ["sclip", "clearclip"])})) == ""
