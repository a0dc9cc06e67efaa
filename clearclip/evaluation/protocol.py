"""The protocol of the published numbers (paper §4): windows and background thresholds of each benchmark."""

from dataclasses import replace

from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.models.backbone import Backbone
from clearclip.segmentation.windows import Windows

THRESHOLDS = {"voc21": 0.5, "context60": 0.15, "coco_object": 0.4}  # pixels less sure than this are background
PLAIN_CLIP = {"voc21": 0.2}  # what the untouched encoder was given instead


def threshold(dataset: str, recipe: Recipe) -> float:
    """The score below which a pixel becomes background, 0 for data sets that have none.

    >>> [threshold("voc21", RECIPES[name]) for name in ("clip", "clearclip")], threshold("voc20", RECIPES["clip"])
    ([0.2, 0.5], 0.0)
    """
    untouched = replace(recipe, name="") == replace(RECIPES["clip"], name="")
    return (PLAIN_CLIP if untouched else {}).get(dataset, THRESHOLDS.get(dataset, 0.0))


def windows(dataset: str, model: Backbone) -> Windows:
    """Windows of 448 with stride 224, on Cityscapes of 224 with stride 224; in proportion for models of small pictures."""
    usual = Windows.of(model)
    return replace(usual, crop=usual.crop // 2) if dataset == "cityscapes" else usual
