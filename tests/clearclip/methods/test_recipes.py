"""Recipes written into a Dataset, read back, and compared by what they compute."""

from dataclasses import fields, replace

import pytest
import xarray as xr

from clearclip.methods.recipes import RECIPES, Recipe, feature_recipe

# every knob at a value that is not its default
TURNED = {
    "affinity": "0.5*qq + 0.5*vv",
    "residual": False,
    "ffn": False,
    "alpha": 2.5,
    "beta": 0.3,
    "normalize_residual": True,
    "stream": 3,
    "layer": 7,
    "cls_weight": -0.3,
}
# knobs that another one has to go with
TOGETHER = {"stream": {"ffn": False}}
MANY = [
    *RECIPES.values(),
    *(feature_recipe(feature, layer) for feature in ("X_res", "X_attn", "X_sum") for layer in (None, 1, 12)),
    *(Recipe(f"only {knob}", **{knob: value, **TOGETHER.get(knob, {})}) for knob, value in TURNED.items()),
]


def test_every_knob_is_turned_here():
    assert set(TURNED) == {field.name for field in fields(Recipe)} - {"name"}


def test_what_is_written_is_read_back_after_it_was_in_a_file(tmp_path):
    dataset = xr.Dataset(coords=Recipe.to_coords(MANY))
    assert list(Recipe.from_coords(dataset).values()) == MANY
    dataset.to_netcdf(tmp_path / "recipes.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "recipes.nc", engine="h5netcdf") as written:
        recipes = Recipe.from_coords(written)
    assert list(recipes) == [recipe.name for recipe in MANY] and list(recipes.values()) == MANY
    kinds = {knob: type(value) for knob, value in TURNED.items()}
    assert all(type(getattr(recipes[f"only {knob}"], knob)) is kind for knob, kind in kinds.items())


def test_the_coordinates_have_the_names_of_the_format():
    coords = Recipe.to_coords(MANY)
    assert set(coords) == {
        *("recipe", "attention", "residual", "ffn", "alpha", "beta", "normalize_residual", "stream", "layer"),
        "cls_weight",
    }
    assert coords["layer"][1][0] == 0 and "0 for the last" in coords["layer"][2]["long_name"]


def test_a_file_from_before_a_knob_has_its_default():
    old = xr.Dataset(coords=Recipe.to_coords(list(RECIPES.values()))).drop_vars(["cls_weight", "stream"])
    recipes = Recipe.from_coords(old)
    assert recipes["clearclip"] == RECIPES["clearclip"]
    assert recipes["segearth_ov"] == replace(RECIPES["segearth_ov"], cls_weight=0.0)


@pytest.mark.parametrize("knob", TURNED)
def test_recipes_that_differ_in_one_knob_are_not_the_same(knob):
    plain = Recipe("plain", **TOGETHER.get(knob, {}))
    assert not plain.same(replace(plain, **{knob: TURNED[knob]}))


def test_neither_name_nor_spelling_makes_a_difference():
    assert Recipe("a", "qq+kk").same(Recipe("b", "qq  +  kk")) and not Recipe("a", "qq + kk").same(Recipe("a", "kk"))
    assert Recipe("a", "qq+kk").nameless == Recipe("b", "qq + kk").nameless


def test_a_recipe_without_a_layer_reads_the_last_one_of_any_model():
    assert [recipe.reads(24) for recipe in (Recipe("clip"), feature_recipe("X_res", 7))] == [24, 7]
