"""Principal components against scikit-learn, and the colors that they get."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.decomposition import PCA

import clearclip
from analysis import plots
from analysis.plots.pca_maps import colors
from analysis.probes import store
from analysis.probes.components import Moments
from analysis.probes.images import pictures
from analysis.probes.pca import pca_maps, report, tidy
from analysis.probes.probe import Probe
from clearclip.errors import UserError

COUNT, GRID = 3, (8, 8)


@pytest.fixture(scope="module")
def model():
    return clearclip.load("dino_tiny", device="cpu")


@pytest.fixture(scope="module")
def photographs():
    return pictures(["photographs"], COUNT)


@pytest.fixture(scope="module")
def dataset(model, photographs):
    return pca_maps(model, photographs, layers=[2, 6], batch_size=2)


@pytest.fixture(scope="module")
def foreground(model, photographs):
    return pca_maps(model, photographs, features=["X_sum"], components=2, foreground=True)


def patches(model, photographs, layer, feature):
    """All pictures' patches, (images, patches, D) float64."""
    images = torch.stack([model.transform()(picture.read()) for picture in photographs])
    with torch.inference_mode(), Probe(model, [layer], [feature], keep=True) as probe:
        model(images)
    return probe[layer, feature][:, model.prefix_tokens :].double().numpy()


def oriented(fitted, scores):
    """Scores with the sign that makes each component's largest loading positive."""
    largest = np.abs(fitted.components_).argmax(1)
    return scores * np.sign(fitted.components_[range(len(largest)), largest])


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_components_of_parts_are_those_of_the_whole(mean):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 7)) * [5, 4, 3, 2, 1, 0.5, 0.2] + mean
    moments = Moments()
    for part in (x[:40], x[40:40], x[40:41], x[41:]):
        moments.add(part)
    fitted, ours = PCA(3, svd_solver="full").fit(x), moments.components(3)
    np.testing.assert_allclose(ours.variance, fitted.explained_variance_, rtol=1e-8)
    np.testing.assert_allclose(ours.variance / ours.total, fitted.explained_variance_ratio_, rtol=1e-8)
    np.testing.assert_allclose(ours(x), oriented(fitted, fitted.transform(x)), atol=1e-6)
    assert moments.most == 7 and Moments().most == 0


@pytest.mark.parametrize(("layer", "feature"), [(2, "X_res"), (6, "X_attn"), (6, "X_sum")])
def test_maps_are_those_of_scikit_learn(model, photographs, dataset, layer, feature):
    x = patches(model, photographs, layer, feature)
    fitted = PCA(3, svd_solver="full").fit(x.reshape(-1, x.shape[-1]))
    scores = oriented(fitted, fitted.transform(x.reshape(-1, x.shape[-1])))
    ours = dataset.sel(model="dino_tiny", layer=layer, feature=feature)
    largest = np.abs(scores).max()
    np.testing.assert_allclose(ours.pca, scores.reshape(COUNT, *GRID, 3), atol=1e-4 * largest)
    np.testing.assert_allclose(ours.explained_variance, fitted.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(ours.explained_variance_ratio, fitted.explained_variance_ratio_, rtol=1e-4)


def test_the_foreground_has_components_of_its_own(model, photographs, foreground):
    x = patches(model, photographs, model.depth, "X_sum").reshape(COUNT, *GRID, -1)
    first = PCA(1, svd_solver="full").fit_transform(x.reshape(-1, x.shape[-1])).reshape(COUNT, *GRID)
    border = np.concatenate([first[:, [0, -1]].ravel(), first[:, 1:-1, [0, -1]].ravel()]).mean()
    inside = first * border < 0
    assert 0.1 < inside.mean() < 0.9
    scores = foreground.pca.isel(model=0, layer=0, feature=0).values
    assert (np.isfinite(scores[..., 0]) == inside).all()
    fitted = PCA(2, svd_solver="full").fit(x[inside])
    expected = oriented(fitted, fitted.transform(x[inside]))
    np.testing.assert_allclose(scores[inside], expected, atol=1e-4 * np.abs(expected).max())


def test_the_numbers_do_not_depend_on_the_batches_and_stay_from_run_to_run(model, photographs, dataset):
    again, single = (pca_maps(model, photographs, layers=[2, 6], batch_size=size) for size in (2, 1))
    xr.testing.assert_equal(again.pca, dataset.pca)
    np.testing.assert_allclose(single.pca, dataset.pca, atol=1e-3 * float(np.abs(dataset.pca).max()))


def test_table_and_rows(dataset, foreground):
    assert "variance of all patches in the first 3 principal components, 3 images together" in report(dataset)
    assert "of all foreground patches in the first 2" in report(foreground)
    rows = tidy(dataset)
    assert len(rows) == 2 * 3 * 3 and set(rows.component) == {1, 2, 3} and not rows.random_weights.any()


def test_mistakes_are_refused(model, photographs):
    with pytest.raises(UserError, match=r"64 patches of X_sum in layer 6 have at most 63"):
        pca_maps(model, photographs[:1], features=["X_sum"], components=64)
    with pytest.raises(UserError, match="components 0"):
        pca_maps(model, photographs[:1], components=0)
    with pytest.raises(UserError, match=r"2 × 2 patches are all on the border"):
        pca_maps(model, photographs, foreground=True, image_size=2 * model.patch_size)
    with pytest.raises(UserError, match=r"1 … 6"):
        pca_maps(model, photographs, layers=[7])


def test_a_color_means_the_same_in_every_picture():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 5, 4, 4)) * [9, 3, 1, 100]
    values[0, 0, 0] = np.nan
    scores = xr.DataArray(values, dims=("image", "row", "column", "component"))
    rgb = colors(scores)
    assert rgb.shape == (2, 5, 4, 3) and rgb.min() == 0 and rgb.max() == 1 and not rgb[0, 0, 0].any()
    flat, color = values[..., :3].reshape(-1, 3)[1:], rgb.reshape(-1, 3)[1:]
    order = flat.argsort(0)
    assert (np.diff(np.take_along_axis(color, order, 0), axis=0) >= 0).all()  # one scale over both pictures
    low, high = np.percentile(flat, (1, 99), axis=0)
    np.testing.assert_allclose(color, ((flat - low) / (high - low)).clip(0, 1), atol=1e-12)
    assert not colors(scores[..., :2])[..., 2].any()
    assert not colors(scores * 0).any()  # a component without variance


def test_the_figure_has_a_column_for_each_map(model, photographs, dataset, foreground):
    clip = pca_maps(clearclip.load("clip_tiny", random=True), photographs, image_size=32)
    dino = pca_maps(model, photographs)
    figure = plots.pca(store.merge_models([clip, dino]))
    titles = [title for axes in figure.axes if (title := axes.get_title())]
    assert len(titles) == 6 and sum("random weights" in title for title in titles) == 3
    assert len(figure.axes) == COUNT * 7
    shapes = [axes.images[0].get_array().shape for axes in figure.axes]
    assert shapes[1] == (*clip.pca.shape[4:6], 3) and shapes[4] == (*GRID, 3)  # no margin around the smaller grid
    assert figure.axes[-1].get_xlabel().count("%") == 3
    several = plots.pca(dataset)  # rows of its own for each feature
    assert len(several.axes) == 3 * COUNT * 3
    assert "black: background" in plots.pca(foreground).get_supxlabel()
    with pytest.raises(UserError, match=r"python -m analysis\.pca"):
        plots.pca(dataset.drop_vars("pca"))
