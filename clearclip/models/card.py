"""A model on a card: what a notebook and `print` show of it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the backbone draws its own card
    from clearclip.models.backbone import Backbone


def facts(model: Backbone) -> dict[str, str]:
    """What one wants to know of a model at a glance, by name."""
    rows, columns = model.grid()
    return {
        "architecture": model.architecture,
        "depth × width": f"{model.depth} × {model.width}",
        "heads": str(model.heads),
        "patches": f"{rows} × {columns} of {model.patch_size} px",
        "prefix tokens": str(model.prefix_tokens),
        "weights": "RANDOM" if model.weights.random else model.weights.name,
        "precision": f"{model.precision} on {model.device}",
    }


def line(model: Backbone) -> str:
    """The card in one line."""
    return f"Backbone({model.name}: {', '.join(f'{name} {value}' for name, value in facts(model).items())})"


def html(model: Backbone) -> str:
    """The card as a small table."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts(model).items())
    return f"<table><caption>{escape(model.name)}</caption>{rows}</table>"
