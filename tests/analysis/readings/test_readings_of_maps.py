"""The sentences of pictures say what the numbers are, also when they are the opposite."""

import numpy as np
import pytest
import xarray as xr

from analysis.readings.maps import attention, feature_maps, label_maps, pca, similarity

UNIFORM, ONE_PATCH = np.full((2, 2), 0.25), np.array([[1.0, 0.0], [0.0, 0.0]])


def attention_of(*weights):
    """The attention of one query in one head, for each of some products."""
    products = ["qk", "qq"][: len(weights)]
    dims = ("model", "image", "layer", "affinity", "head", "row", "column")
    values = np.stack(weights)[None, None, None, :, None]
    coords = {"model": ["m"], "image": ["a"], "layer": [7], "affinity": products, "head": [1]}
    return xr.Dataset({"attention": (dims, values)}, coords)


def test_attention():
    assert attention(attention_of(UNIFORM, ONE_PATCH)) == [
        "The attention of m in layer 7 covers of 4 patches 4 with qk and 1 with qq; qq looks at the fewest."
    ]
    assert "qk looks at the fewest" in attention(attention_of(ONE_PATCH, UNIFORM))[0]
    assert "fewest" not in attention(attention_of(UNIFORM, UNIFORM))[0] + attention(attention_of(ONE_PATCH))[0]


def similarity_of(x_res, x_attn):
    """Maps of ten patches: five have the cosine that is given for the layer, the others have 0."""
    values = np.zeros((2, 2, 10))  # layer, feature, patch
    for feature, contrasts in enumerate((x_res, x_attn)):
        for layer, contrast in enumerate(contrasts):
            values[layer, feature, :5] = contrast
    dims = ("model", "image", "layer", "feature", "row", "column")
    coords = {"model": ["m"], "image": ["a"], "layer": [1, 2], "feature": ["X_res", "X_attn"]}
    return xr.Dataset({"similarity": (dims, values.reshape(1, 1, 2, 2, 2, 5))}, coords)


@pytest.mark.parametrize(
    ("x_res", "x_attn", "best"),
    [((0.8, 0.0), (0.2, 0.4), "X_res of layer 1 (contrast 0.40)"), ((0.1, 0.0), (0.2, 0.6), "X_attn of layer 2")],
)
def test_similarity(x_res, x_attn, best):
    (sentence,) = similarity(similarity_of(x_res, x_attn))
    assert f"In m the patch finds its like most clearly in {best}" in sentence
    assert f"in the last layer it is {x_res[1] / 2:.2f} in X_res and {x_attn[1] / 2:.2f} in X_attn." in sentence


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        ([0.5, 0.25], "2 principal components hold this share of the variance of the patches: 75% in X_attn."),
        ([0.5], "the first principal component holds this share of the variance of the patches: 50% in X_attn."),
    ],
)
def test_pca(shares, sentence):
    dims = ("model", "layer", "feature", "component")
    ratios = np.array([[0.0] * len(shares), shares, [np.nan] * len(shares)])  # the model has no layer 7
    coords = {"model": ["m"], "layer": [1, 6, 7], "feature": ["X_attn"], "component": range(1, len(shares) + 1)}
    dataset = xr.Dataset({"explained_variance_ratio": (dims, ratios[None, :, None])}, coords, {"pca_of": "patches"})
    assert pca(dataset) == [f"In layer 6 of m {sentence}"]


@pytest.mark.parametrize(
    ("peaks", "factors"), [((50.0, 2.0), "50 in X_res and 2 in X_attn"), ((3.0, 9.0), "3 in X_res")]
)
def test_feature_maps(peaks, factors):
    values = np.ones((1, 1, 2, 2, 9, 5))  # the first layer says nothing
    values[0, 0, 1, :, 4, 0] = peaks
    dims = ("model", "image", "layer", "feature", "token", "channel")
    coords = {"model": ["m"], "image": ["a"], "layer": [1, 6], "feature": ["X_res", "X_attn"], "channel": range(5)}
    (sentence,) = feature_maps(xr.Dataset({"feature_map": (dims, values)}, coords))
    assert f"In layer 6 of m the strongest channel stands above the median entry by a factor of {factors}" in sentence


def label_maps_of(accuracy=None, **labels):
    """Label maps of one picture of 2 × 2 pixels beside one that is larger, so that there is padding of 255."""
    values = np.array([[np.pad(np.reshape(map_, (2, 2)), (0, 1), constant_values=255)] for map_ in labels.values()])
    dims = ("model", "recipe", "image", "row", "column")
    dataset = xr.Dataset(
        {"labels": (dims, values[None], {"not_labelled": 255})},
        {"model": ["m"], "recipe": list(labels), "image": ["a"]},
    )
    if accuracy:
        dataset["pixel_accuracy"] = (("model", "recipe", "image"), np.array(accuracy)[None, :, None])
    return dataset


def test_label_maps_with_true_labels():
    maps = {"clip": [0, 0, 0, 0], "clearclip": [1, 1, 1, 1]}
    assert label_maps(label_maps_of([12.0, 80.0], **maps)) == [
        "clearclip labels 80 % of the pixels of m's pictures rightly, against 12 % by clip, the fewest."
    ]
    assert label_maps(label_maps_of([80.0, 12.0], **maps))[0].startswith("clip labels 80 %")
    assert "against" not in label_maps(label_maps_of([80.0], clip=maps["clip"]))[0]


def test_label_maps_without_true_labels():
    (sentence,) = label_maps(label_maps_of(clip=[0, 0, 0, 0], sclip=[0, 0, 0, 1], clearclip=[1, 1, 0, 1]))
    assert sentence == "With m, clip and clearclip agree least: on 25% of the pixels."
    assert "clip and sclip agree least: on 100%" in label_maps(label_maps_of(clip=[0, 1, 2, 3], sclip=[0, 1, 2, 3]))[0]
    assert label_maps(label_maps_of(clip=[0, 0, 0, 0])) == []
