"""The sentence of prototypes names the best map, whichever it is."""

import numpy as np
import xarray as xr

from analysis.readings.prototypes import reading


def made_up(best, last):
    """mIoU of one model on one data set: 10 everywhere, `best` in X_attn of layer 1, `last` in X_sum of the last layer."""
    dims = ("model", "dataset", "layer", "feature", "similarity")
    coords = {
        "model": ["m"],
        "dataset": ["mine"],
        "layer": [1, 2],
        "feature": ["X_res", "X_attn", "X_sum"],
        "similarity": ["cosine", "standardised"],
    }
    dataset = xr.Dataset({"miou": (dims, np.full((1, 1, 2, 3, 2), 10.0))}, coords)
    dataset.miou.loc[{"layer": 1, "feature": "X_attn", "similarity": "standardised"}] = best
    dataset.miou.loc[{"layer": 2, "feature": "X_sum"}] = last
    return dataset


def test_the_best_map_beside_the_last_layer():
    assert reading(made_up(40.0, 12.0)) == [
        "X_attn of layer 1 of m knows best what is where on mine: 40.0 mIoU (standardised), 28.0 more than X_sum of the last "
        "layer."
    ]
    assert "X_sum of layer 2 of m" in reading(made_up(5.0, 50.0))[0]
    assert "50.0 mIoU (cosine), the same as X_sum of the last layer" in reading(made_up(5.0, 50.0))[0]


def test_a_model_of_fewer_layers():
    dataset = made_up(40.0, 12.0)
    dataset.miou.loc[{"layer": 2}] = np.nan
    assert "30.0 more than X_sum of the last layer" in reading(dataset)[0]
