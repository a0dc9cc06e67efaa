"""What is drawn: lines, labels and warnings, not pixels."""

import matplotlib.colors as colors
import matplotlib.pyplot as plt
import numpy as np
import pytest

from analysis import plots
from analysis.plots.feature_surfaces import draw_surface, pooled
from analysis.plots.panels import axis_label
from analysis.plots.style import FEATURE_LABEL, FEATURE_STYLE
from analysis.probes.collection import collect
from analysis.probes.statistics import FIGURE_4, TOKENS
from clearclip.errors import UserError
from clearclip.segmentation.style import style


@pytest.fixture(scope="module")
def dataset(dino):
    import clearclip
    from analysis.probes.store import merge_models

    tiny = clearclip.load("timm:test_vit.r160_in1k", random=True)
    return merge_models(
        [collect(model, None, FIGURE_4 + TOKENS, limit=3, image_size=48, progress=False) for model in (dino, tiny)]
    )


@pytest.mark.parametrize(
    "draw, variable", [(plots.entropy, "entropy"), (plots.maxima, "maximum"), (plots.norms, "frobenius_norm")]
)
def test_lines_show_the_means_of_each_feature(dataset, draw, variable):
    figure = draw(dataset, "patches")
    axes = figure.axes
    assert len(axes) == 2
    for panel, model in zip(axes, dataset.model.values, strict=True):
        assert model in panel.get_title() and "random weights" in panel.get_title()
        for line, feature in zip(panel.lines, ("X_res", "X_attn", "X_sum"), strict=True):
            expected = (
                dataset[variable].sel(model=model, feature=feature, tokens="patches").mean("image").dropna("layer")
            )
            np.testing.assert_allclose(line.get_ydata(), expected)
            assert line.get_xdata().tolist() == expected.layer.values.tolist()
            assert line.get_color() == FEATURE_STYLE[feature]["color"]
        assert panel.get_xlabel() == "layer"
    assert axes[0].get_ylabel() == axis_label(dataset[variable])
    assert [text.get_text() for text in figure.legends[0].texts] == list(FEATURE_LABEL.values())
    assert "3 images" in figure.get_supxlabel() and "patch tokens" in figure.get_supxlabel()


def test_all_tokens_are_named_in_the_figure(dataset):
    assert "CLS and registers" in plots.entropy(dataset, "all").get_supxlabel()


def test_trained_weights_are_not_called_random(dataset):
    trained = dataset.assign_coords(random_weights=("model", [False, False]))
    assert [axes.get_title() for axes in plots.entropy(trained).axes] == dataset.model.values.tolist()


def test_sorted_channels_of_every_layer_are_drawn(dataset):
    figure = plots.channels(dataset)
    panel = figure.axes[0]
    assert len(panel.lines) == 12
    expected = (
        dataset.channel_mean_sorted.isel(model=0).sel(feature="X_res", layer=12, tokens="patches").dropna("channel")
    )
    np.testing.assert_array_equal(panel.lines[-1].get_ydata(), expected)
    assert "random weights" in panel.get_ylabel()
    assert len({colors.to_hex(line.get_color()) for line in panel.lines}) == 12


def test_token_map_holds_the_norms_where_they_lie(dataset):
    figure = plots.tokens(dataset, map_layer=2)
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    expected = dataset.token_norm.isel(model=0).sel(feature="X_sum", layer=2, tokens="patches")
    np.testing.assert_array_equal(shown[0], expected.values[1:10].reshape(3, 3))


@pytest.mark.parametrize("shape", [(500, 700), (5, 7), (1, 1), (96, 97)])
def test_pooled_map_keeps_every_peak(shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values[shape[0] // 2, shape[1] // 3], values[0, -1] = 50.0, -60.0
    tokens_at, channels_at, cells = pooled(values)
    assert cells.shape == (min(shape[0], 96), min(shape[1], 96)) == (len(tokens_at), len(channels_at))
    assert cells.min() == -60.0 and (cells.max() == 50.0 or shape == (1, 1))
    where = np.unravel_index(cells.argmin(), cells.shape)
    assert (
        abs(tokens_at[where[0]] - 0) <= shape[0] / 96
        and abs(channels_at[where[1]] - (shape[1] - 1)) <= shape[1] / 96 + 1
    )


def test_surface_names_the_strongest_channels():
    values = np.zeros((50, 70), np.float32)
    values[12, 45], values[7, 8], values[3, 3] = 50.0, -60.0, 20.0
    _, axes = plt.subplots(subplot_kw={"projection": "3d"})
    draw_surface(axes, values, "#D55E00")
    assert {text.get_text() for text in axes.texts} == {"45", "8", "3"}


def test_another_dataset_is_refused(dataset):
    with pytest.raises(UserError, match=r"python -m analysis.tokens"):
        plots.tokens(dataset.drop_vars("mean_cosine"))
    with pytest.raises(UserError, match=r"python -m analysis.featuremaps"):
        plots.feature_maps(dataset)


def test_style_stays_inside():
    before = dict(plt.rcParams)
    with style():
        assert plt.rcParams["font.size"] == 8
    assert dict(plt.rcParams) == before
