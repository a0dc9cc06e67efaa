"""The sentences of sweeps say what the numbers are, also when they are the opposite."""

import numpy as np
import pytest
from sweeps import sweep

from analysis.readings.sweeps import ablation, alpha, beta, compare, layers, norms_and_miou
from analysis.sweeps import recipe_lists
from clearclip.methods.recipes import RECIPES, feature_recipe


def made_up(recipes, miou, **more):
    """A sweep of one model and data set with a mIoU for each recipe, 10 where none is named."""
    dataset = sweep(recipes, **more)
    values = np.array([miou.get(recipe.name, 10.0) for recipe in recipes])
    return dataset.assign(miou=dataset.miou.copy(data=values[None, None]))


def test_ablation():
    recipes = recipe_lists.ablation()
    (sentence,) = ablation(made_up(recipes, {"qq full": 20.0, "qq -RC": 25.0, "qq -FFN": 19.0, "qq -RC-FFN": 31.5}))
    assert sentence == (
        "Best for clip_vitb16 on VOC20: qq attention, -RC-FFN, 31.5 mIoU; "
        "against the full block of 20.0: -FFN -1.0, -RC +5.0, -RC-FFN +11.5."
    )
    (sentence,) = ablation(made_up(recipes, {"qk full": 40.0}))
    assert "qk attention, full, 40.0 mIoU" in sentence and "-RC-FFN -30.0" in sentence


def test_ablation_of_recipes_without_the_full_block():
    recipes = [recipe for recipe in recipe_lists.ablation() if recipe.name == "qq -RC-FFN"]
    assert ablation(made_up(recipes, {})) == ["Best for clip_vitb16 on VOC20: qq attention, -RC-FFN, 10.0 mIoU."]


@pytest.mark.parametrize(
    ("values", "course"),
    [
        ((10, 11, 12, 13, 14, 15), "rises from 10.0 at 0.1 to 15.0 at 100"),
        ((15, 14, 13, 12, 11, 10), "falls from 15.0 at 0.1 to 10.0 at 100"),
        ((10, 12, 30, 12, 11, 9), "with 30.0, against 10.0 at 0.1 and 9.0 at 100"),
    ],
)
def test_alpha(values, course):
    recipes = [recipe for recipe in recipe_lists.alpha() if recipe.affinity == "qq"]
    assert [recipes[0].alpha, recipes[-1].alpha] == [0.1, 100]
    miou = {recipe.name: value for recipe, value in zip(recipes, values, strict=True)}
    (sentence,) = alpha(made_up(recipes, miou))
    assert sentence.startswith("With α the mIoU of clip_vitb16 and qq attention ") and course in sentence


def test_alpha_speaks_of_the_best_attention():
    (sentence,) = alpha(made_up(recipe_lists.alpha(), {"kk alpha=100": 50.0}))
    assert "and kk attention rises from 10.0 at 0.1 to 50.0 at 100 on VOC20" in sentence


def test_beta():
    recipes = recipe_lists.beta()
    rising = {recipe.name: 10 + 100 * recipe.beta for recipe in recipes}
    assert "rises from 10.0 at 0 to 110.0 at 100" in beta(made_up(recipes, rising))[0]
    falling = {recipe.name: 90 - 10 * recipe.beta for recipe in recipes}
    assert "falls from 90.0 at 0 to 80.0 at 100" in beta(made_up(recipes, falling))[0]
    assert beta(made_up(recipes[-1:], {})) == []  # the normalized X_res alone is no course


def test_compare():
    recipes = recipe_lists.compare()
    (sentence,) = compare(made_up(recipes, {"clip": 12.0, "clearclip": 40.0}))
    assert sentence == "Best for clip_vitb16 on VOC20: ClearCLIP, 40.0 mIoU; ClearCLIP gains 28.0 against CLIP."
    (sentence,) = compare(made_up(recipes, {"clip": 12.0, "clearclip": 1.5, "sclip": 13.0}))
    assert sentence == "Best for clip_vitb16 on VOC20: SCLIP, 13.0 mIoU; ClearCLIP loses 10.5 against CLIP."
    assert "against" not in compare(made_up([RECIPES["sclip"]], {}))[0]


def test_compare_takes_the_mean_of_several_data_sets():
    dataset = sweep([RECIPES["clip"], RECIPES["clearclip"]], datasets=("voc20", "ade20k", "voc21"))
    gain = dataset.miou.sel(dataset=["voc20", "ade20k"]).mean("dataset").diff("recipe").item()
    (sentence,) = compare(dataset)
    assert f"gains {gain:.1f}" in sentence and "in the mean of 2 datasets" in sentence


def test_compare_names_the_weights_of_published_rows_that_a_name_does_not_load():
    recipes = [RECIPES["clip"], RECIPES["clearclip"]]
    sentence = compare(sweep(recipes, models=("clip_vitb16", "blip_vitb16")))[2]
    assert "blip_vitb16 were run with the weights model_base_14M.pth" in sentence
    assert "model_large.pth" in compare(sweep(recipes, models=("blip_vitl16",)))[-1]


@pytest.mark.parametrize("best", ["X_attn layer 1", "X_res layer 2"])
def test_layers(best):
    recipes = [feature_recipe(feature, layer) for layer in (1, 2) for feature in ("X_res", "X_attn", "X_sum")]
    (sentence,) = layers(made_up(recipes, {best: 44.0}))
    feature, _, layer = best.split()
    assert f"best found in {feature} of layer {layer} of clip_vitb16: 44.0 mIoU on VOC20; in layer 2: X_res" in sentence


@pytest.mark.parametrize(
    ("values", "trend"),
    [((1, 2, 3, 4, 5), "rises"), ((5, 4, 3, 2, 1), "falls"), ((3, 1, 5, 2, 4), "does not go")],
)
def test_norms(values, trend):
    recipes = recipe_lists.norms()
    miou = {recipe.name: float(value) for recipe, value in zip(recipes, values, strict=True)}
    (sentence,) = norms_and_miou(made_up(recipes, miou, norms=True))  # norms of X_attn rise with the index
    best = max(miou, key=miou.__getitem__)
    assert f"clip_vitb16 {trend} with the weight of X_attn" in sentence and f"highest with {best}, 5.0" in sentence
