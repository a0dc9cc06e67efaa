"""From models to rows: expected, measured, tolerance, source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.verification import expectations
from clearclip.verification.checks import CHECKS
from clearclip.verification.expectations import Expectation
from clearclip.verification.pictures import Pictures

AGREES, DISAGREES, SKIPPED, NOT_LOADED = "agrees", "DISAGREES", "skipped", "could not be loaded"


@dataclass(frozen=True)
class Row:
    """What came of one expectation.

    Args:
        model: what the model is called.
        verdict: "agrees", "DISAGREES", "skipped" or "could not be loaded".
        what: what was measured, in words.
        expected: the published numbers; none if the model could not be loaded.
        measured: the model's; none if it was skipped.
        tolerance: how far each may be away.
        rule: as in `Expectation`.
        source: who published them.
        why: why it was skipped or not loaded.
    """

    model: str
    verdict: str
    what: str
    expected: tuple[float, ...] = ()
    measured: tuple[float, ...] = ()
    tolerance: float = 0.0
    rule: str = "within"
    source: str = ""
    why: str = ""


@torch.inference_mode()
def verify(model: Backbone, pictures: Pictures | None = None, known: Sequence[Expectation] | None = None) -> list[Row]:
    """Measure what is known about a model.

    Args:
        model: any; of one that nothing is published of, its own consistency is measured.
        pictures: where the photographs are.
        known: what is expected, by default what the package knows about the model's architecture and weights.

    Returns:
        One row for each expectation; a check whose pictures are not there is skipped by name.

    >>> import clearclip
    >>> [row.verdict for row in verify(clearclip.load("clip_tiny"))]
    ['agrees', 'agrees', 'agrees']
    """
    rows = []
    for expectation in expectations.of(model.architecture) if known is None else known:
        measured: tuple[float, ...] = ()
        why = ""
        try:
            measured = tuple(CHECKS[expectation.check](model, pictures or Pictures(), **expectation.given))
            verdict = AGREES if expectation.agrees(measured) else DISAGREES
        except UserError as error:
            verdict, why = SKIPPED, str(error)
        rows.append(
            Row(
                model.name,
                verdict,
                expectation.what,
                expectation.expected,
                measured,
                expectation.tolerance,
                expectation.rule,
                expectation.source,
                why,
            )
        )
    return rows


def not_loaded(model: str, error: UserError) -> Row:
    """The row of a model whose weights cannot be had."""
    return Row(model, NOT_LOADED, "the weights", why=str(error))


def failed(rows: Sequence[Row]) -> bool:
    """Whether a row disagrees, or a model could not be loaded."""
    return any(row.verdict in (DISAGREES, NOT_LOADED) for row in rows)
