"""The protocol of the published numbers (paper §4): windows and background thresholds, from each benchmark's facts."""

from __future__ import annotations

from dataclasses import replace

from clearclip.datasets import facts
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.methods.windows import Windows
from clearclip.models.backbone import Backbone


def threshold(dataset: str, recipe: Recipe) -> float:
    """The score below which a pixel becomes background, 0 for data sets that have none.

    >>> [threshold("voc21", RECIPES[name]) for name in ("clip", "clearclip")], threshold("voc20", RECIPES["clip"])
    ([0.2, 0.5], 0.0)
    """
    known = facts(dataset)
    if known.clip_threshold is not None and recipe.same(RECIPES["clip"]):
        return known.clip_threshold
    return known.threshold


def windows(dataset: str, model: Backbone) -> Windows:
    """Windows of 448 with stride 224, on Cityscapes of 224 with stride 224; in proportion for models of small pictures."""
    usual = Windows.of(model)
    return replace(usual, crop=usual.crop // 2) if facts(dataset).half_windows else usual
