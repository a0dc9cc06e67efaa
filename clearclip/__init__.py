"""Vision transformers, looked into without touching them, and the segmentation methods built on what is seen."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearclip.backbones import load
    from clearclip.dense import DenseEncoder
    from clearclip.errors import UserError
    from clearclip.evaluation import evaluate
    from clearclip.recipes import RECIPES, Recipe
    from clearclip.segmenter import Segmenter
    from clearclip.vit import Backbone

__all__ = ["RECIPES", "Backbone", "DenseEncoder", "Recipe", "Segmenter", "UserError", "evaluate", "load"]

_HOME = {
    "load": "backbones",
    "evaluate": "evaluation",
    "Backbone": "vit",
    "UserError": "errors",
    "Recipe": "recipes",
    "RECIPES": "recipes",
    "DenseEncoder": "dense",
    "Segmenter": "segmenter",
}


def __getattr__(name: str) -> Any:
    """Import torch only when something is used, so that every --help answers at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'clearclip' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"clearclip.{_HOME[name]}"), name)
