"""Recipes written into a Dataset, read back, and compared by what they compute."""

import shlex
from dataclasses import fields, replace

import pytest
import xarray as xr

from clearclip.errors import UserError
from clearclip.methods import stages
from clearclip.methods.recipes import RECIPES, Recipe, feature_recipe, recipe, recipes
from clearclip.methods.stages import AddCls, Branch, PatchesOnly

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
    "resize_positions": "bilinear",
    "stages": (PatchesOnly(), Branch(blocks=(4, 5), how="mean"), AddCls(weight=0.5)),
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
        *("cls_weight", "resize_positions", "stages"),
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


@pytest.mark.parametrize("knob", TURNED)
def test_every_knob_is_turned_in_words(knob):
    given = {knob: TURNED[knob], **TOGETHER.get(knob, {})}
    facts = replace(RECIPES["clip"], **given).facts | given | {"stages": stages.write(given.get("stages", ()))}
    words = shlex.join(f"{name}={facts[name]}" for name in given)
    turned = recipe(f"clip {words}")
    assert turned.name == f"clip {words}" and turned.same(replace(RECIPES["clip"], **given))


def test_switches_and_quoted_values():
    assert all(recipe(f"clip ffn={word}").ffn is False for word in ("no", "False", "off", "0"))
    assert all(recipe(f"clearclip ffn={word}").ffn is True for word in ("yes", "TRUE", "on", "1"))
    assert recipe("clip 'affinity=qq + kk'").same(RECIPES["sclip"])


MISTAKES = {
    "cleerclip alpha=2": ("unknown recipe 'cleerclip alpha=2'", "Closest: clearclip"),
    "clearclip alfa=2": ("'alfa=2' is not a knob and its value", "The knobs are affinity, residual, ffn, alpha"),
    "clearclip alpha": ("'alpha' is not a knob and its value", "as in alpha=2"),
    "clearclip alpha = 2": ("'alpha' is not a knob and its value", "as in alpha=2"),
    "clearclip name=mine": ("'name=mine' is not a knob", "The knobs are"),
    "clearclip alpha=two": ("alpha is a number, not 'two'", "clearclip alpha=two"),
    "clearclip alpha=": ("alpha is a number, not ''", ""),
    "clearclip ffn=maybe": ("ffn is yes or no, not 'maybe'", ""),
    "clearclip layer=1.5": ("layer is a whole number, not '1.5'", ""),
    "clearclip stream=x": ("stream is a whole number, not 'x'", ""),
    "clearclip beta=2": ("beta is a share of the channels between 0 and 1, not 2.0", "clearclip beta=2"),
    "clearclip beta=nan": ("between 0 and 1", ""),
    "clip stream=2": ("has no FFN", ""),
    "clearclip alpha=0": ("nothing is left", ""),
    "clearclip affinity=qz": ("qz", ""),
    "clearclip 'affinity=qq": ("cannot be read", ""),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_recipe_that_cannot_be_is_refused_with_what_can(text):
    with pytest.raises(UserError) as refused:
        recipe(text)
    assert all(part in str(refused.value) for part in MISTAKES[text])


def test_one_recipe_with_two_settings_is_two_recipes():
    assert [method.alpha for method in recipes(["clearclip", "clearclip alpha=2"])] == [1.0, 2.0]
    with pytest.raises(UserError, match="each name once"):
        recipes(["clearclip alpha=2", "clearclip alpha=2"])
