"""Results of several models and data sets in one, and as tables."""

import numpy as np
import pytest

import clearclip
from clearclip.datasets import load
from clearclip.evaluation.run import evaluate
from clearclip.evaluation.table import merge, table, tidy
from clearclip.methods.recipes import Recipe

QUIET = {"prompts": "photo", "progress": False}


@pytest.fixture(scope="module")
def grid():
    """Two models × two data sets, each model with recipes of its own."""
    model = clearclip.load("clip_tiny", device="cpu")
    scenes, background = (load(name, count=2) for name in ("scenes", "scenes_background"))
    mine = Recipe("mine", "vv", ffn=False, alpha=2.0, layer=6)
    recipes = {"clip_tiny": ["clip", "sclip"], "other": ["clip", mine]}
    return [
        evaluate(model, dataset, chosen, threshold=threshold, **QUIET).assign_coords(model=[name])
        for name, chosen in recipes.items()
        for dataset, threshold in ((scenes, 0.0), (background, 0.1))
    ]


def test_what_one_does_not_have_is_nan_in_the_merged_result(grid):
    merged = merge(grid)
    assert merged.model.values.tolist() == ["clip_tiny", "other"]
    assert merged.dataset.values.tolist() == ["scenes", "scenes_background"]
    assert merged.recipe.values.tolist() == ["clip", "sclip", "mine"]
    assert merged["class"].values.tolist() == [*load("scenes").classes, "background"]
    for one in grid:
        where = {"model": one.model.item(), "dataset": one.dataset.item()}
        here = merged.sel(where)
        for name in ("iou", "intersection", "union"):
            both = here[name].sel(recipe=one.recipe, **{"class": one["class"]})
            np.testing.assert_array_equal(both.values, one[name].squeeze().values)
            kept = np.isin(merged["class"], one["class"])
            assert here[name].values[:, ~kept].size and np.isnan(here[name].values[:, ~kept]).all()
        for name in ("miou", "pixel_accuracy", "threshold"):
            found = merged[name].sel({key: value for key, value in where.items() if key in merged[name].dims})
            np.testing.assert_array_equal(found.sel(recipe=one.recipe), one[name].squeeze())
        other = [name for name in merged.recipe.values if name not in one.recipe]
        assert np.isnan(here.miou.sel(recipe=other)).all()
    assert merged.images.values.tolist() == [[2, 2], [2, 2]]
    assert "confusion" not in merged and "predicted" not in merged.coords


def test_coordinates_survive_the_merging(grid):
    merged = merge(grid)
    assert merged.attention.values.tolist() == ["qk", "qq + kk", "vv"]
    assert merged.alpha.values.tolist() == [1, 1, 2] and merged.layer.values.tolist() == [0, 0, 6]
    assert merged.ffn.values.tolist() == [True, True, False] and merged.ffn.dtype == bool
    for name, values in grid[0].coords.items():
        if name not in ("class", "predicted"):
            assert merged[name].dims == values.dims and merged[name].attrs == values.attrs, name
    assert len(set(merged.data_sha256.values)) == 2 and merged.split.values.tolist() == ["validation"] * 2
    for name in ("iou", "miou", "threshold"):
        assert merged[name].attrs == grid[0][name].attrs
    assert set(grid[0].attrs) == set(merged.attrs)


def test_the_table_has_a_column_a_data_set_and_the_average(grid):
    merged = merge(grid)
    rows = table(merged)
    assert list(rows.columns) == ["scenes", "scenes_background", "average"] and len(rows) == 6
    for model, recipe in rows.index:
        values = merged.miou.sel(model=model, recipe=recipe).values
        np.testing.assert_array_equal(rows.loc[(model, recipe)], [*values, values.mean()])
    assert list(table(grid[0]).columns) == ["scenes"]  # of one there is no average


def test_tidy_rows(grid):
    merged = merge(grid)
    rows = tidy(merged)
    keys = ["model", "dataset", "recipe", "class"]
    assert not rows.duplicated(keys).any() and rows.iou.notna().all()
    assert len(rows) == int(merged.iou.notnull().sum() + merged.miou.notnull().sum())
    means = rows[rows["class"] == "mean"].set_index(keys[:3])
    for where, row in means.iterrows():
        here = merged.sel(dict(zip(keys, where, strict=False)))
        assert (row.iou, row.pixel_accuracy) == (here.miou.item(), here.pixel_accuracy.item())
    for _, row in rows[rows["class"] != "mean"].iloc[::7].iterrows():
        here = merged.sel({key: row[key] for key in keys})
        assert (row.iou, row.intersection, row.union) == (here.iou.item(), here.intersection.item(), here.union.item())
        assert row.attention == here.attention.item() and row.random_weights == here.random_weights.item()
    alone = tidy(grid[0])
    assert list(alone.columns[:8]) == list(rows.columns[:8]) and set(alone.columns) == set(rows.columns)
