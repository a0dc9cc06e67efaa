"""Similarity of one patch to all others, against a plain loop and the model's own maps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import clearclip
from analysis import plots
from analysis.probes.images import pictures
from analysis.probes.probe import Probe
from analysis.probes.similarity import contrast, patch_similarity, similarity_maps
from clearclip.errors import UserError


@given(hnp.arrays(np.float32, (5, 3), elements=st.floats(-10, 10, width=32)), st.integers(0, 3))
def test_cosines_equal_a_loop_over_patches(tokens, query):
    values = patch_similarity(torch.from_numpy(tokens)[None], query, 1)[0]
    patches = tokens[1:].astype(np.float64)
    for i, value in enumerate(values):
        lengths = np.linalg.norm(patches[i]) * np.linalg.norm(patches[query])
        expected = patches[i] @ patches[query] / lengths if lengths > 1e-10 else None
        if expected is not None:
            assert float(value) == pytest.approx(expected, abs=1e-5)
        assert -1.00001 <= float(value) <= 1.00001


@pytest.fixture(scope="module")
def model():
    return clearclip.load("dino_tiny", device="cpu")


@pytest.fixture(scope="module")
def dataset(model):
    return similarity_maps(model, pictures(["photographs"], 2), (0.5, 0.25), layers=[1, 6])


def test_maps_are_those_of_the_model_itself(model, dataset):
    assert dict(dataset.similarity.sizes) == {"model": 1, "image": 2, "layer": 2, "feature": 3, "row": 8, "column": 8}
    assert (int(dataset.query_row[0]), int(dataset.query_column[0])) == (4, 2)
    image = model.transform()(pictures(["photographs"], 1)[0].read())[None]
    with torch.inference_mode(), Probe(model, [6], keep=True) as probe:
        model(image)
    x = probe[6, "X_attn"][0, 1:].double().numpy()
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    np.testing.assert_allclose(
        dataset.similarity.sel(feature="X_attn", layer=6).values[0, 0],
        (unit @ unit[4 * 8 + 2]).reshape(8, 8),
        atol=1e-5,
    )
    np.testing.assert_allclose(dataset.similarity.isel(row=4, column=2), 1, atol=1e-5)  # itself


def test_contrast_is_zero_where_all_patches_are_alike(dataset):
    assert float(contrast(dataset.assign(similarity=dataset.similarity * 0 + 0.9)).max()) == 0
    assert (contrast(dataset) > 0).all()


def test_a_point_outside_is_refused(model):
    for point in ((1.0, 0.5), (0.5, -0.1), (float("nan"), 0)):
        with pytest.raises(UserError, match=r"lie in \[0, 1\)"):
            similarity_maps(model, pictures(["photographs"], 1), point)


def test_the_figure_has_a_row_for_each_feature(dataset):
    figure = plots.similarity(dataset)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles.count("layer 1") == 1 and titles.count("layer 6") == 1 and titles.count("dino_tiny") == 2
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == [rf"$X_\mathrm{{{name}}}$" for name in ("res", "attn", "sum")] * 2
    with pytest.raises(UserError, match=r"analysis\.similarity"):
        plots.similarity(dataset.drop_vars("similarity"))
