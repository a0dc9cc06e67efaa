"""Tables of a sweep, from values of a formula."""

import pytest
from sweeps import miou, sweep

from analysis.sweeps import recipe_lists, table
from clearclip.methods.recipes import feature_recipe

LAYERS = [feature_recipe(feature, layer) for layer in (1, 2, 3) for feature in ("X_res", "X_attn", "X_sum")]


def test_compare_prints_measured_published_and_difference():
    dataset = sweep(recipe_lists.compare(), ("clip_vitb16", "clip_tiny"), ("voc20", "ade20k"))
    rows = table.methods(dataset)
    assert rows.loc[("clip_vitb16", "ClearCLIP", "measured"), "voc20"] == miou(0, 0, 5)
    assert rows.loc[("clip_vitb16", "ClearCLIP", "published"), "voc20"] == 80.9
    assert rows.loc[("clip_vitb16", "ClearCLIP", "difference"), "ade20k"] == pytest.approx(miou(0, 1, 5) - 16.7)
    assert rows.loc[("clip_vitb16", "SCLIP", "published"), "voc20"] == 78.2
    assert rows.loc[("clip_vitb16", "SCLIP", "difference"), "mean of 2"] == pytest.approx(
        miou(0, 0, 2) + 3.5 - (78.2 + 14.6) / 2
    )
    assert set(rows.loc["clip_tiny"].index.get_level_values("numbers")) == {"measured"}
    assert len(rows.loc["clip_tiny"]) == len(recipe_lists.compare())
    order = [compare_name for compare_name, _ in dict.fromkeys(rows.loc["clip_vitb16"].index)]
    assert list(dict.fromkeys(order))[:3] == ["CLIP", "MaskCLIP", "SCLIP"]


def test_a_row_for_each_layer():
    dataset = sweep(LAYERS, ("clip_vitb16", "shallow"), ("coco_stuff",))
    rows = table.layers(dataset)
    assert rows.shape == (3, 6) and rows[("clip_vitb16", "coco_stuff", "X_sum")].tolist() == [
        miou(0, 0, r) for r in (2, 5, 8)
    ]
