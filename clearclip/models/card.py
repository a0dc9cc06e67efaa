"""A model on a card: what `print` and a notebook show of it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def line(name: str, facts: Mapping[str, str]) -> str:
    """The card in one line.

    >>> line("clip_tiny", {"heads": "3", "precision": "fp32"})
    'Backbone(clip_tiny: heads 3, precision fp32)'
    """
    return f"Backbone({name}: {', '.join(f'{fact} {value}' for fact, value in facts.items())})"


def html(name: str, facts: Mapping[str, str]) -> str:
    """The card as a small table."""
    rows = "".join(f"<tr><th>{escape(fact)}</th><td>{escape(value)}</td></tr>" for fact, value in facts.items())
    return f"<table><caption>{escape(name)}</caption>{rows}</table>"
