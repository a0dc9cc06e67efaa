"""Label maps beside photo and true labels: what is drawn, not pixels."""

import numpy as np
import pytest
from PIL import Image

import clearclip
from analysis import plots
from analysis.plots.label_pictures import rows
from analysis.probes.label_maps import label_maps
from clearclip.datasets import Sample, load
from clearclip.errors import UserError
from clearclip.segmentation.overlay import explained, flat, handles


@pytest.fixture(scope="module")
def dataset():
    scenes = load("scenes", split="test", count=2, size=48)
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8))
    samples = [*(scenes[i] for i in range(2)), Sample(wide, np.full((300, 600), 255, np.uint8), "unlabelled")]
    return label_maps(clearclip.load("clip_tiny"), samples, scenes.classes, ("clip", "clearclip", "X_attn"))


def test_the_figure_has_a_row_a_picture_and_one_legend(dataset):
    figure = plots.label_maps(dataset)
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles == ["photo", "ground truth", "CLIP", "ClearCLIP", r"$X_\mathrm{attn}$"]
    shapes = [axes.images[0].get_array().shape[:2] for axes in figure.axes]
    assert shapes == [(48, 48)] * 10 + [(256, 512)] * 5
    lines = rows(dataset)
    colors = explained(lines, dataset["class"].values.tolist())
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), flat(lines[0].truth, colors.of))
    np.testing.assert_allclose(figure.axes[11].images[0].get_array(), 1)  # nothing is labelled
    assert len(figure.legends) == 1
    assert [text.get_text() for text in figure.legends[0].texts] == [patch.get_label() for patch in handles(colors)]
    assert "clip_tiny" in figure.get_suptitle() and "drawn scenes" in figure.get_suptitle()


def test_random_weights_are_named_in_the_figure(dataset):
    figure = plots.label_maps(dataset.assign_coords(random_weights=("model", [True])), ["clip"], [0])
    assert "RANDOM WEIGHTS" in figure.get_suptitle() and len(figure.axes) == 3


def test_a_recipe_that_is_not_there(dataset):
    with pytest.raises(UserError, match="no label maps of gem, but of clip, clearclip, X_attn"):
        rows(dataset, recipes=["gem"])
