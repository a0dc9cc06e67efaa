"""Figs. 1 (left), 3, 4, 7, 9, 10, 11 and those beyond the paper: what is drawn, not pixels."""

import numpy as np
import pytest
from sweeps import miou, sweep

import clearclip
from analysis.plots.style import FEATURE_LABEL
from analysis.probes import feature_maps, label_maps
from analysis.probes.collection import collect
from analysis.probes.images import pictures
from analysis.probes.statistics import FIGURE_4, TOKENS
from analysis.probes.store import merge_models
from analysis.sweeps import recipe_lists
from clearclip.datasets import load
from clearclip.errors import UserError
from figures.catalogue import ENTRIES
from figures.features import richest


@pytest.fixture(scope="module")
def models():
    return [clearclip.load(name) for name in ("clip_tiny", "dino_tiny")]


@pytest.fixture(scope="module")
def statistics(models):
    return merge_models(
        [collect(one, ["photographs", "scenes"], FIGURE_4 + TOKENS, limit=2, progress=False) for one in models]
    )


@pytest.fixture(scope="module")
def pictures_with_maps(models):
    scenes = load("scenes", split="test", count=3, size=32)
    return label_maps.label_maps(models[0], [scenes[i] for i in range(3)], scenes.classes)


@pytest.mark.parametrize("name", ["fig1", "fig3", "fig4a", "fig4b", "fig4c", "fig7", "fig9", "fig10", "fig11"])
def test_each_has_a_caption_and_says_what_it_needs(name):
    entry = ENTRIES[name]
    assert entry.caption.startswith(f"Fig. {name.removeprefix('fig')}") and entry.caption.endswith(".")
    assert entry.needs


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_fig1_shows_the_three_maps_and_clearclip_of_the_richest_picture(pictures_with_maps):
    figure = ENTRIES["fig1"].draw(pictures_with_maps)
    features = [FEATURE_LABEL[name] for name in ("X_sum", "X_res", "X_attn")]
    assert titles(figure) == ["photo", "ground truth", *features, "ClearCLIP"]
    counts = [len(np.unique(one)) for one in pictures_with_maps.truth.values]
    best = richest(pictures_with_maps)
    assert counts[best] == max(counts)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), pictures_with_maps.picture[best])
    assert richest(pictures_with_maps.drop_vars("truth")) == 0
    assert figure.get_figwidth() == pytest.approx(7)


@pytest.mark.parametrize("name", ["fig7", "fig10", "fig11"])
def test_four_methods_beside_photo_and_truth(name, pictures_with_maps):
    figure = ENTRIES[name].draw(pictures_with_maps)
    assert titles(figure) == ["photo", "ground truth", "CLIP", "MaskCLIP", "SCLIP", "ClearCLIP"]
    assert len(figure.axes) == 18 and len(figure.legends) == 1
    assert "clip_tiny" in figure.get_suptitle()


def test_two_models_have_rows_of_their_own(pictures_with_maps):
    import xarray as xr

    other = pictures_with_maps.assign_coords(model=["other"], random_weights=("model", [True]))
    both = xr.concat([pictures_with_maps, other], "model", data_vars="minimal", coords="minimal", compat="override")
    figure = ENTRIES["fig7"].draw(both)
    assert [axes.get_ylabel() for axes in figure.axes[::6]] == ["clip_tiny"] * 3 + ["other"] * 3
    assert "RANDOM WEIGHTS" in figure.get_suptitle()


def layer_sweep(**kwargs):
    class Model:
        depth = 2

    return sweep(recipe_lists.layers(Model()), ("clip_tiny",), **kwargs)


def test_fig3_has_the_last_layers_bars_beside_published_markers(pictures_with_maps):
    figure = ENTRIES["fig3"].draw(layer_sweep(datasets=("scenes",)), pictures_with_maps)
    bars = figure.axes[0]
    # recipes are X_res, X_attn, X_sum of layer 1, then of layer 2; the bars are in the order of the paper
    assert [bar.get_height() for bar in bars.patches] == [miou(0, 0, 5), miou(0, 0, 3), miou(0, 0, 4)]
    names = ("X_sum", "X_res", "X_attn")
    assert [text.get_text() for text in bars.get_xticklabels()] == [FEATURE_LABEL[name] for name in names]
    markers = [line for line in bars.lines if line.get_marker() == "d"]
    assert [line.get_ydata()[0] for line in markers] == [4.4, 0.01, 11.6]
    assert all(line.get_markerfacecolor() == "white" for line in markers)
    assert "CLIP-B/16" in bars.get_legend().get_texts()[0].get_text() and "scenes" in bars.get_ylabel()
    assert len(figure.axes) == 1 + 3 * 5


def test_fig3_refuses_another_model(pictures_with_maps):
    other = layer_sweep(datasets=("scenes",)).assign_coords(model=["clip_vitb16"])
    with pytest.raises(UserError, match="clip_tiny"):
        ENTRIES["fig3"].draw(other, pictures_with_maps)


def test_fig4a_marks_the_readings_in_the_panels_of_clip_only(statistics):
    figure = ENTRIES["fig4a"].draw(statistics)
    for i, axes in enumerate(figure.axes):
        open_markers = [line for line in axes.lines if line.get_marker() == "d"]
        assert [line.get_ydata()[0] for line in open_markers] == ([1.0, 0.0] if i % 2 == 0 else [])
        assert all(line.get_xdata()[0] == 6 for line in open_markers)
    assert "CLIP-B/16" in figure.get_supxlabel() and "drawn scenes" in figure.get_supxlabel()


def test_fig4b_writes_measured_beside_published(statistics):
    figure = ENTRIES["fig4b"].draw(statistics)
    clip, dino = (axes.texts[0].get_text() for axes in figure.axes[:2])
    photographs = statistics.isel(image=statistics.source.values == "photographs").sel(model="clip_tiny")
    means = photographs.maximum.sel(feature="X_res", tokens="patches").mean("image").values
    assert f"{means[-1] / means[:3].mean():.1f}×" in clip and "about 90×" in clip
    assert "mostly below 10" in dino and "largest" in dino
    assert figure.axes[0].get_ylim() == figure.axes[3].get_ylim()


def test_a_model_of_another_kind_has_no_readings(statistics):
    mae = statistics.assign_coords(architecture=("model", ["timm:vit_base_patch16_224.mae"] * 2))
    assert not any(axes.texts for axes in ENTRIES["fig4b"].draw(mae).axes)
    assert not [line for axes in ENTRIES["fig4a"].draw(mae).axes for line in axes.lines if line.get_marker() == "d"]


def test_fig4c_has_a_row_a_model(statistics):
    figure = ENTRIES["fig4c"].draw(statistics)
    assert [axes.get_ylabel().splitlines()[0] for axes in figure.axes[0:6:3]] == ["clip_tiny", "dino_tiny"]


def test_fig9_names_the_small_models(models):
    one = feature_maps.feature_maps(models[0], pictures(["photographs"], 1))
    figure = ENTRIES["fig9"].draw(one)
    assert len(figure.axes) == 3 and "clip_tiny: small, trained on drawn scenes" in figure.get_supxlabel()
    random = ENTRIES["fig9"].draw(one.assign_coords(random_weights=("model", [True])))
    assert "drawn scenes" not in random.get_supxlabel()
    assert "random weights" in random.axes[0].texts[-1].get_text()


def test_beyond_the_paper(statistics):
    figure = ENTRIES["layers"].draw(layer_sweep(datasets=("scenes",)))
    assert figure.axes[0].get_xlabel() == "layer" and "mIoU" in figure.axes[0].get_ylabel()
    assert len(ENTRIES["tokens"].draw(statistics).axes) >= 12
