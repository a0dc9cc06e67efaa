"""What is known about published models, as data: expectations.json, and the arrays beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np

from clearclip.models.load import resolve

RULES = ("within", "at least", "at most")


@dataclass(frozen=True)
class Expectation:
    """One number, or a few, that a model must give.

    Args:
        check: which function of `clearclip.verification.checks` measures it.
        what: what is measured, in words.
        expected: the published numbers.
        tolerance: how far each may be away.
        source: who published them, with the licence.
        rule: "within" the tolerance, or "at least" or "at most" the expected number.
        given: what the check is called with.
    """

    check: str
    what: str
    expected: tuple[float, ...]
    tolerance: float
    source: str
    rule: str = "within"
    given: Mapping[str, Any] = field(default_factory=dict)

    def agrees(self, measured: Sequence[float]) -> bool:
        """Whether measured numbers are as expected; one that is not finite never is.

        >>> known = Expectation("identity", "largest difference", (1.0, 2.0), 0.1, "nobody")
        >>> known.agrees([1.05, 1.95]), known.agrees([1.05, 2.2]), known.agrees([1.0, float("nan")]), known.agrees([1.0])
        (True, False, False, False)
        """
        if len(measured) != len(self.expected):
            return False
        for expected, value in zip(self.expected, measured, strict=True):
            away = {"within": abs(value - expected), "at least": expected - value, "at most": value - expected}[
                self.rule
            ]
            if not away <= self.tolerance:
                return False
        return True


def everything() -> list[tuple[str, Expectation]]:
    """All models with what is known of them; "*" stands for any model."""
    text = (files("clearclip.verification") / "expectations.json").read_text("utf-8")
    return [(model, read(entry)) for model, entries in json.loads(text).items() for entry in entries]


def read(entry: Mapping[str, Any]) -> Expectation:
    """An expectation from its entry in a file."""
    return Expectation(**{**entry, "expected": tuple(entry["expected"])})


def of(architecture: str) -> list[Expectation]:
    """What is known of one model, its own numbers first.

    >>> [known.check for known in of("zoo:clip_tiny")]
    ['identity', 'library_tokens', 'library_features']
    """
    own = [known for model, known in everything() if model != "*" and resolve(model) == architecture]
    return own + [known for model, known in everything() if model == "*"]


def models() -> list[str]:
    """The short names of all models that something is known of.

    >>> models()[:2]
    ['clip_vitb32', 'clip_vitb16']
    """
    return list(dict.fromkeys(model for model, _ in everything() if model != "*"))


def array(name: str) -> dict[str, np.ndarray]:
    """One file of arrays, by the names that are in it.

    >>> {name: values.shape for name, values in array("coco_panoptic_text_vitb16").items()}
    {'names': (133,), 'vectors': (133, 512)}
    """
    with (files("clearclip.verification") / "data" / f"{name}.npz").open("rb") as file, np.load(file) as stored:
        return dict(stored)
