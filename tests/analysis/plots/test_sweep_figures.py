"""What the sweeps draw: bars, lines, open markers and labels, from values of a formula."""

import matplotlib.colors as colors
import numpy as np
import pytest
from sweeps import miou, sweep

from analysis import plots
from analysis.plots.style import ATTENTION_STYLE, FEATURE_STYLE, VARIANT_STYLE
from analysis.sweeps import published, recipe_lists
from clearclip.errors import UserError
from clearclip.methods.recipes import Recipe, feature_recipe

LAYERS = [feature_recipe(feature, layer) for layer in (1, 2, 3) for feature in ("X_res", "X_attn", "X_sum")]
SWEEPS = {
    "ablation": (recipe_lists.ablation(), plots.ablation),
    "ablation_by_dataset": (recipe_lists.ablation(), plots.ablation_by_dataset),
    "alpha": (recipe_lists.alpha(), plots.alpha),
    "beta": (recipe_lists.beta(), plots.beta),
    "compare": (recipe_lists.compare(), plots.compare),
    "layers": (LAYERS, plots.layers),
    "norms_and_miou": (recipe_lists.norms(), plots.norms_and_miou),
}


def marks(axes):
    """The open markers of a panel, as (x, y)."""
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_label() == "published"]


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize(
    "models, datasets",
    [
        (("clip_tiny",), ("scenes",)),
        (("clip_vitb16", "b"), ("voc20", "scenes_background")),
        (("a", "b", "c"), published.WITH_BACKGROUND),
        (("clip_tiny", "b", "c", "d"), published.BENCHMARKS),
    ],
)
def test_any_number_of_models_and_datasets_is_drawn_and_named(name, models, datasets):
    recipes, draw = SWEEPS[name]
    figure = draw(sweep(recipes, models, datasets, norms=True, random=("b",)))
    text = " ".join([*(panel.get_title() + panel.get_ylabel() for panel in figure.axes), figure.get_supxlabel()])
    assert all(model in text for model in models)
    assert ("random weights" in text) == ("b" in models)
    assert ("trained on drawn scenes" in text) == ("clip_tiny" in models)
    assert "1,449" in figure.get_supxlabel() and len(figure.legends) == 1
    assert figure.get_figwidth() in (3.4, 4.8, 7.0)


def test_fig5_bars_are_means_over_the_datasets_without_background():
    dataset = sweep(recipe_lists.ablation(), ("clip_vitb16",), ("voc20", "ade20k", "voc21"))
    figure = plots.ablation(dataset)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [(miou(0, 0, r) + miou(0, 1, r)) / 2 for r in range(20)]
    assert "mean of 2 datasets" in figure.axes[0].get_ylabel() and "VOC21" not in figure.get_supxlabel()
    shown = dict.fromkeys(colors.to_hex(bar.get_facecolor()).upper() for bar in figure.axes[0].patches)
    assert list(shown) == [look["color"] for look in VARIANT_STYLE.values()]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["q-k", "q-q", "k-k", "v-v", "$I$"]
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "as it is",
        "− FFN",
        "− RC",
        "− RC − FFN",
        "published",
    ]


def test_fig5_open_markers_are_the_published_means_at_their_bars():
    figure = plots.ablation(
        sweep(recipe_lists.ablation(), ("clip_vitb16", "clip_vitl14"), published.WITHOUT_BACKGROUND)
    )
    shown = marks(figure.axes[0])
    at = {place - 0.3 + 0.2 * step: (place, step) for place in range(5) for step in range(4)}
    found = {at[min(at, key=lambda x: abs(x - mark[0]))]: mark[1] for mark in shown}
    assert found == pytest.approx(
        {(0, 0): 12.6, (0, 3): 27.6, (1, 0): 27.28, (1, 1): 25.86, (1, 2): 33.7, (1, 3): 37.48, (4, 3): 29.28}
    )  # fmt: skip; MaskCLIP itself, at (4, 0), is quoted from another protocol
    assert len(marks(figure.axes[1])) == 4


def test_fig8_has_a_panel_for_each_dataset_and_a_marker_for_each_variant():
    dataset = sweep(recipe_lists.ablation(), ("clip_vitb16", "clip_tiny"), ("voc20", "scenes"))
    figure = plots.ablation_by_dataset(dataset)
    assert len(figure.axes) == 4 and [axes.get_title() for axes in figure.axes[:2]] == ["VOC20", "scenes"]
    stars = [line for line in figure.axes[3].lines if line.get_marker() == "*"]
    assert [line.get_ydata()[0] for line in stars] == [miou(1, 1, r) for r in (3, 7, 11, 15, 19)]
    assert [y for _, y in marks(figure.axes[0])] == [41.8, 68.4, 62.8, 77.6, 80.9, 61.4]
    assert not marks(figure.axes[1]) and not marks(figure.axes[2])


def test_open_markers_are_of_the_same_protocol_and_the_caption_names_it():
    dataset = sweep(recipe_lists.compare(), ("clip_vitb16",), ("cityscapes",))
    for protocol, values in (("clearclip", {5.5, 29.1, 30.0}), ("sclip", {32.2, 35.5, 41.0, 41.1})):
        figure = plots.compare(dataset.assign_coords(protocol=("dataset", [protocol])))
        shown = {float(value) for value, _ in marks(figure.axes[0])}
        assert values <= shown and (30.0 in shown) == (protocol == "clearclip")
        assert f"protocol {protocol}" in figure.get_supxlabel().replace("\n", " ")


def test_fig6_lines_run_over_alpha_in_the_colour_of_their_attention():
    dataset = sweep(recipe_lists.alpha()[::-1], ("clip_vitb16",), published.WITHOUT_BACKGROUND)
    axes = plots.alpha(dataset).axes[0]
    lines = [line for line in axes.lines if line.get_label() != "published"]
    assert [line.get_color() for line in lines] == [look["color"] for look in ATTENTION_STYLE.values()]
    for step, line in enumerate(lines):
        assert line.get_xdata().tolist() == list(recipe_lists.ALPHAS)
        expected = [np.mean([miou(0, d, 29 - 6 * step - k) for d in range(5)]) for k in range(6)]
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert axes.get_xscale() == "log" and marks(axes) == [(1.0, pytest.approx(25.86))]


def test_table_4_as_a_figure_has_the_normalised_residual_apart():
    axes = plots.beta(sweep(recipe_lists.beta(), ("clip_vitb16",), published.BENCHMARKS)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "5", "10", "30", "50", "70", "100", "norm."]
    pruned, normalised = axes.lines[:2]
    np.testing.assert_allclose(pruned.get_ydata(), [np.mean([miou(0, d, r) for d in range(8)]) for r in range(7)])
    assert len(normalised.get_xdata()) == 1 and normalised.get_xdata()[0] > 7
    assert [y for _, y in marks(axes)] == [22.1, 30.2, 33.5, 37.4, 38.0, 38.1, 38.1, 38.1]


def test_table_4_as_a_figure_averages_the_datasets_that_it_names():
    figure = plots.beta(sweep(recipe_lists.beta(), ("clip_vitb16",), ("voc20", "scenes", "ade20k")))
    np.testing.assert_allclose(
        figure.axes[0].lines[0].get_ydata(), [np.mean([miou(0, d, r) for d in (0, 2)]) for r in range(7)]
    )
    assert "mean of 2 datasets" in figure.axes[0].get_ylabel() and "scenes" not in figure.get_supxlabel()


def test_fig2_has_both_norms_and_the_miou_on_its_own_axis():
    dataset = sweep(recipe_lists.norms(), ("clip_vitb16", "clip_vitl14"), ("coco_stuff",), norms=True)
    figure = plots.norms_and_miou(dataset)
    left, right = figure.axes[0], figure.axes[2]
    heights = [bar.get_height() for bar in left.patches]
    assert heights == [100.0] * 5 + [40.0, 50.0, 60.0, 70.0, 80.0]
    line = next(line for line in right.lines if line.get_label() == "mIoU")
    assert line.get_ydata().tolist() == [miou(0, 0, r) for r in range(5)]
    assert marks(right) == [(0, 4.4), (1, 14.7)]
    assert [text.get_text() for text in figure.legends[0].texts][2:] == ["mIoU", "published"]
    with pytest.raises(UserError, match="norms --miou"):
        plots.norms_and_miou(dataset.drop_vars("x_attn_norm"))


def test_layers_of_models_of_different_depth():
    dataset = sweep(LAYERS, ("clip_vitb16", "shallow"), ("coco_stuff",))
    dataset.miou[1, :, 6:] = np.nan  # no third layer
    figure = plots.layers(dataset)
    deep, shallow = figure.axes
    assert [len(line.get_xdata()) for line in shallow.lines] == [2, 2, 2]
    assert [line.get_color() for line in shallow.lines] == [
        FEATURE_STYLE[one]["color"] for one in ("X_res", "X_attn", "X_sum")
    ]
    assert marks(deep) == [(3, 0.01), (3, 11.6), (3, 4.4)] and not marks(shallow)


def test_compare_draws_a_bar_for_each_method():
    dataset = sweep(recipe_lists.compare(), ("clip_vitb16",), ("voc20",))
    figure = plots.compare(dataset)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [miou(0, 0, r) for r in range(len(recipe_lists.compare()))]
    assert axes.get_yticklabels()[5].get_text() == "ClearCLIP" and (80.9, 5) in marks(axes)
    assert colors.to_hex(axes.patches[5].get_facecolor()).upper() == VARIANT_STYLE["-RC-FFN"]["color"]


@pytest.mark.parametrize("draw", [plots.ablation, plots.ablation_by_dataset, plots.alpha, plots.beta, plots.layers])
def test_a_dataset_of_another_sweep_is_refused(draw):
    with pytest.raises(UserError, match=r"python -m analysis\."):
        draw(sweep([Recipe("other", "qq + kk", residual=False)]))


def test_what_is_there_of_a_sweep_is_drawn():
    some = [one for one in recipe_lists.ablation() if one.affinity in ("qk", "qq") and one.ffn]
    axes = plots.ablation(sweep(some)).axes[0]
    assert len(axes.patches) == 4 and len(axes.get_xticklabels()) == 2
