"""All commands by name, and the question that each answers.

A command is a door: a module that also runs as `python -m <module>`. Doors are named here and not imported, so that a list
of them answers at once, and so that this package knows nothing of those that stand on it.
"""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

from clearclip.boundary import DEBUG_HELP

DOORS: dict[str, dict[str, str]] = {  # what a command is about → its name → its module
    "Inside the blocks": {
        "explore": "analysis.explore",
        "statistics": "analysis.statistics",
        "entropy": "analysis.entropy",
        "maxima": "analysis.maxima",
        "channels": "analysis.channels",
        "norms": "analysis.norms",
        "tokens": "analysis.tokens",
        "attention": "analysis.attention",
        "similarity": "analysis.similarity",
        "pca": "analysis.pca",
        "featuremaps": "analysis.featuremaps",
        "prototypes": "analysis.prototypes.__main__",
        "export": "analysis.export",
    },
    "Who writes what": {
        "peaks": "analysis.peaks",
        "attribution": "analysis.attribution.__main__",
        "components": "analysis.components",
        "textspan": "analysis.textspan.__main__",
    },
    "Recipes for the last block": {
        "ablation": "analysis.ablation",
        "alpha": "analysis.alpha",
        "beta": "analysis.beta",
        "compare": "analysis.compare",
        "layers": "analysis.layers",
        "maps": "analysis.maps",
    },
    "Segmentation": {
        "segment": "clearclip.segment",
        "text": "clearclip.text",
        "evaluate": "clearclip.evaluation.__main__",
        "datasets": "clearclip.datasets.__main__",
    },
    "Trust": {"verify": "clearclip.verify", "reproduce": "clearclip.reproduce"},
    "The paper": {"figures": "figures.__main__"},
    "This command": {"completion": "clearclip.completion"},
}
COMMANDS = {name: module for group in DOORS.values() for name, module in group.items()}


def question(module: str) -> str:
    """What a door answers: the first sentence of its docstring, read without importing it.

    >>> question("clearclip.segment")
    'Segment photos into the classes you name.'
    """
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, module
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8"))) or ""
    return re.split(r"(?<=[.?]) ", " ".join(docstring.split()))[0]


def overview() -> str:
    """All commands and the question that each answers."""
    lines = ["usage: clearclip COMMAND [OPTIONS], and clearclip COMMAND --help for its options"]
    for group, doors in DOORS.items():
        lines += ["", f"{group}:", *(_entry(name, module) for name, module in doors.items())]
    return "\n".join([*lines, "", DEBUG_HELP])


def _entry(name: str, module: str) -> str:
    return fill(question(module), 110, initial_indent=f"  {name:12} ", subsequent_indent=" " * 15)
