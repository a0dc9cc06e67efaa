"""Which recipe of a sweep's Dataset is which, and the values of each."""

from dataclasses import replace

import numpy as np
import pytest
from sweeps import miou, sweep

from analysis.sweeps import published, recipe_lists
from analysis.sweeps.read import by_alpha, by_beta, by_layer, by_variant, feature_of, find, for_mean, read
from clearclip.errors import UserError
from clearclip.methods.recipes import Recipe, feature_recipe

LAYERS = [feature_recipe(feature, layer) for layer in (1, 2, 3) for feature in ("X_res", "X_attn", "X_sum")]


def test_layer_recipes_follow_the_models_depth():
    class Model:
        depth = 4

    made = recipe_lists.layers(Model())
    assert [one.layer for one in made] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    features = [feature_of(recipe) for recipe in made[:3]]
    assert features == ["X_res", "X_attn", "X_sum"]


def test_recipes_are_found_by_what_they_compute():
    dataset = sweep([Recipe("mine", "qq", residual=False, ffn=False), feature_recipe("X_attn", 7)])
    assert find(dataset, Recipe("clearclip", "qq", residual=False, ffn=False)) == "mine"
    assert find(dataset, feature_recipe("X_attn")) is None
    assert find(dataset, feature_recipe("X_attn", 7)) == "X_attn layer 7"


def test_values_by_layer_of_models_of_different_depth():
    dataset = sweep(LAYERS, ("clip_vitb16", "shallow"), ("coco_stuff",))
    dataset.miou[1, :, 6:] = np.nan  # no third layer
    values = by_layer(dataset)
    assert values.dims == ("model", "dataset", "layer", "feature")
    assert float(values.sel(model="clip_vitb16", layer=2, feature="X_attn").item()) == miou(0, 0, 4)
    assert values.sel(model="shallow").isnull().any(("dataset", "feature")).values.tolist() == [False, False, True]


def test_sweeps_are_found_whatever_their_recipes_are_called_and_however_they_are_ordered():
    turned = [replace(recipe, name=f"recipe {i}") for i, recipe in enumerate(recipe_lists.alpha()[::-1])]
    found = by_alpha(sweep(turned))
    assert list(found) == list(recipe_lists.ATTENTIONS) and list(found["qk"]) == list(recipe_lists.ALPHAS)
    assert found["identity"][100.0] == "recipe 0" and found["qk"][0.1] == "recipe 29"
    variants = by_variant(sweep(recipe_lists.ablation()[:6]))
    assert variants == {
        "qk": {v: f"qk {v}" for v in recipe_lists.VARIANTS},
        "qq": {"full": "qq full", "-FFN": "qq -FFN"},
    }
    shares = by_beta(sweep(recipe_lists.beta()[::-1]))
    assert list(shares) == ["0", "5", "10", "30", "50", "70", "100", "norm."] and shares["norm."] == "X_res normalised"


@pytest.mark.parametrize("by", [by_variant, by_alpha, by_beta, by_layer])
def test_a_dataset_of_another_sweep_is_refused(by):
    with pytest.raises(UserError, match=r"python -m analysis\."):
        by(sweep([Recipe("other", "qq + kk", residual=False)]))


@pytest.mark.parametrize(
    "measured, expected",
    [
        (("scenes", "voc20", "voc21"), ["voc20"]),
        (("scenes_background", "scenes", "voc21"), ["scenes"]),
        (("voc21", "scenes_background"), ["voc21", "scenes_background"]),
        (published.BENCHMARKS, list(published.WITHOUT_BACKGROUND)),
    ],
)
def test_a_mean_is_over_the_papers_data_sets_or_those_without_background_or_all(measured, expected):
    assert for_mean(sweep([Recipe("clip")], datasets=measured)) == expected


def test_a_file_of_something_else_is_refused(tmp_path):
    sweep([Recipe("clip")]).isel(recipe=0).to_netcdf(tmp_path / "one.nc", engine="h5netcdf")
    with pytest.raises(UserError, match="lacks the dimension recipe"):
        read(tmp_path / "one.nc")
