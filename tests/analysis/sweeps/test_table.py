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


def test_compare_shows_published_numbers_of_its_own_protocol_only_and_names_their_source():
    dataset = sweep(recipe_lists.compare(), ("clip_vitb16",), ("voc20", "voc21"))
    ours = table.methods(dataset)
    assert ours.loc[("clip_vitb16", "SCLIP", "published"), "voc20"] == 78.2
    for method in ("MaskCLIP", "NACLIP", "SC-CLIP"):  # quoted from TCL, and measured as SCLIP does
        assert set(ours.loc[("clip_vitb16", method)].index) == {"measured"}
    lines = table.sources(dataset)
    assert "published in ClearCLIP (ECCV 2024), Table 2 (run): CLIP, ClearCLIP" in lines
    assert any(line.startswith("published in ClearCLIP (ECCV 2024), Table 3 (run") for line in lines)

    theirs = dataset.assign_coords(protocol=("dataset", ["sclip"] * 2))
    rows = table.methods(theirs)
    assert rows.loc[("clip_vitb16", "SCLIP", "published"), "voc20"] == 80.4
    assert rows.loc[("clip_vitb16", "SC-CLIP", "published"), "voc21"] == 64.6
    assert set(rows.loc[("clip_vitb16", "ClearCLIP")].index) == {"measured"}
    cited = "published in OV-Stitcher (CVPR 2026 Findings), Table 1 (quoted from its paper): SC-CLIP, SFP"
    assert cited in table.sources(theirs)
    own = dataset.assign_coords(protocol=("dataset", ["sclip with threshold 0.2"] * 2))
    assert not table.sources(own) and set(table.methods(own).index.get_level_values("numbers")) == {"measured"}


def test_a_row_for_each_layer():
    dataset = sweep(LAYERS, ("clip_vitb16", "shallow"), ("coco_stuff",))
    rows = table.layers(dataset)
    assert rows.shape == (3, 6) and rows[("clip_vitb16", "coco_stuff", "X_sum")].tolist() == [
        miou(0, 0, r) for r in (2, 5, 8)
    ]
