"""The sentence of an evaluation names the best recipe of every model and data set."""

import numpy as np
from sweeps import sweep

from clearclip.evaluation.reading import reading
from clearclip.methods.recipes import RECIPES


def made_up(*miou):
    """An evaluation of clip, sclip and clearclip."""
    dataset = sweep([RECIPES[name] for name in ("clip", "sclip", "clearclip")][: len(miou)])
    return dataset.assign(miou=dataset.miou.copy(data=np.array(miou)[None, None]))


def test_the_best_recipe_and_the_next():
    assert reading(made_up(10.0, 20.0, 34.5)) == [
        "Best for clip_vitb16 on voc20: clearclip, 34.5 mIoU, 14.5 more than sclip."
    ]
    assert reading(made_up(30.0, 20.0, 4.5)) == [
        "Best for clip_vitb16 on voc20: clip, 30.0 mIoU, 10.0 more than sclip."
    ]
    assert reading(made_up(30.0)) == ["Best for clip_vitb16 on voc20: clip, 30.0 mIoU."]


def test_what_was_not_measured_is_not_the_best():
    assert reading(made_up(np.nan, 20.0, 4.5)) == [
        "Best for clip_vitb16 on voc20: sclip, 20.0 mIoU, 15.5 more than clearclip."
    ]


def test_one_sentence_for_each_model_and_data_set():
    dataset = sweep([RECIPES["clip"]], models=("a", "b"), datasets=("voc20", "voc21"))
    starts = [sentence.split(":")[0] for sentence in reading(dataset)]
    assert starts == [f"Best for {model} on {name}" for model in ("a", "b") for name in ("voc20", "voc21")]


def test_a_recipe_that_is_told_the_truth_is_a_bound_and_not_the_best():
    dataset = sweep([RECIPES[name] for name in ("clip", "oracle", "clearclip")])
    dataset = dataset.assign(miou=dataset.miou.copy(data=np.array([10.0, 90.0, 34.5])[None, None]))
    assert reading(dataset) == ["Best for clip_vitb16 on voc20: clearclip, 34.5 mIoU, 24.5 more than clip."]
    alone = dataset.sel(recipe=["oracle"])
    assert reading(alone) == ["Best for clip_vitb16 on voc20: oracle, 90.0 mIoU."]
