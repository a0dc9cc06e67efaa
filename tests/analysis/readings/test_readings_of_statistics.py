"""The sentences say what the numbers are, also when they are the opposite."""

import numpy as np
import pytest
import xarray as xr

from analysis.readings.statistics import READINGS, entropy


def made_up(variable, x_res, x_attn, **more):
    """A Dataset of one model, two equal pictures and both features."""
    values = np.array([x_res, x_attn]).T  # (layer, feature)
    dims = ("model", "image", "layer", "feature", "tokens")
    coords = {"model": ["m"], "layer": range(1, len(x_res) + 1), "feature": ["X_res", "X_attn"], "tokens": ["patches"]}
    whole = np.stack([values, values])[None, ..., None]
    return xr.Dataset({variable: (dims, whole), **more}, coords)


def test_a_collapse():
    (sentence,) = entropy(made_up("entropy", [0.95, 0.9, 0.1, 0.03], [0.99, 0.98, 0.97, 0.965]))
    assert sentence == (
        "The entropy of X_res of m collapses from layer 3 on: 0.95 → 0.03; that of X_attn stays above 0.96."
    )


def test_no_collapse_and_the_opposite_feature():
    (sentence,) = entropy(made_up("entropy", [0.95, 0.9], [0.95, 0.9]))
    assert "X_res, X_attn of m stays above 0.89" in sentence
    (sentence,) = entropy(made_up("entropy", [0.95, 0.9], [0.9, 0.1]))
    assert "X_res of m stays above" in sentence and "that of X_attn collapses from layer 2 on: 0.90 → 0.10" in sentence


CHANNELS = {"channel_mean": (("model", "layer", "feature", "channel"), np.ones((1, 2, 2, 1000)))}
SENTENCES = {
    "grows": ("maximum", [1.0, 12.0], [1.0, 3.0], {}, "grows 12 times from layer 1 to layer 2"),
    "shrinks": ("maximum", [12.0, 1.0], [1.0, 3.0], {}, "that of X_attn is 3 times as large as that of X_res"),
    "negative": ("maximum", [-1.0, 1.0], [1.0, 3.0], {}, "goes from -1 to 1"),
    "residual": ("frobenius_norm", [1.0, 8.0], [1.0, 2.0], {}, "X_res is 4 times as large as X_attn"),
    "attention": ("frobenius_norm", [1.0, 2.0], [1.0, 8.0], {}, "X_attn is 4 times as large as X_res"),
    "few": ("channel_dominance", [0.01, 0.6], [0.01, 0.02], CHANNELS, "so a few channels carry X_res."),
    "none": ("channel_dominance", [0.01, 0.02], [0.01, 0.02], CHANNELS, "no map is carried"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_sentences(case):
    variable, x_res, x_attn, more, expected = SENTENCES[case]
    assert expected in READINGS[variable](made_up(variable, x_res, x_attn, **more), "patches")[0]


def test_outliers():
    tokens = READINGS["norm_ratio"]
    assert "in X_attn of layer 2: 10.0%" in tokens(made_up("outlier_share", [0.0, 0.0], [0.0, 0.1]), "patches")[0]
    assert "No token of m" in tokens(made_up("outlier_share", [0.0, 0.0], [0.0, 0.0]), "patches")[0]
