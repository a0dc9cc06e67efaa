"""Vision transformers, looked into without touching them, and the segmentation methods built on what is seen."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearclip.errors import UserError
    from clearclip.evaluation.run import evaluate
    from clearclip.methods.dense import DenseEncoder
    from clearclip.methods.recipes import RECIPES, Recipe
    from clearclip.models.backbone import Backbone
    from clearclip.models.load import load
    from clearclip.segmentation.segmenter import Segmenter

__all__ = ["RECIPES", "Backbone", "DenseEncoder", "Recipe", "Segmenter", "UserError", "evaluate", "load"]

_HOME = {
    "load": "models.load",
    "evaluate": "evaluation.run",
    "Backbone": "models.backbone",
    "UserError": "errors",
    "Recipe": "methods.recipes",
    "RECIPES": "methods.recipes",
    "DenseEncoder": "methods.dense",
    "Segmenter": "segmentation.segmenter",
}


def __getattr__(name: str) -> Any:
    """Import torch only when something is used, so that every --help answers at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'clearclip' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"clearclip.{_HOME[name]}"), name)
