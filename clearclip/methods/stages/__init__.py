"""Stages of recipes, one file each: `STAGES` holds their classes by name."""

from __future__ import annotations

from clearclip.methods.stages.aggregate import Aggregate, AggregateAfter
from clearclip.methods.stages.alone import PatchesOnly
from clearclip.methods.stages.branch import Branch
from clearclip.methods.stages.cls import AddCls
from clearclip.methods.stages.outliers import RULES
from clearclip.methods.stages.repair import Repair
from clearclip.methods.stages.stage import Stage
from clearclip.methods.written import read as read_written

__all__ = ["STAGES", "AddCls", "Aggregate", "AggregateAfter", "Branch", "PatchesOnly", "Repair", "read", "write"]

STAGES: dict[str, type[Stage]] = {
    kind.__name__: kind for kind in (AddCls, Aggregate, AggregateAfter, Branch, PatchesOnly, Repair)
}


def write(stages: tuple[Stage, ...]) -> str:
    """Stages as text for a Dataset.

    >>> write((PatchesOnly(), AddCls(weight=0.5)))
    'PatchesOnly(), AddCls(weight=0.5)'
    """
    return ", ".join(map(repr, stages))


def read(text: str) -> tuple[Stage, ...]:
    """The stages of a text; raises `UserError` for an unknown one.

    >>> read("PatchesOnly(), AddCls(weight=0.5)")
    (PatchesOnly(), AddCls(weight=0.5))
    """
    stages: tuple[Stage, ...] = read_written(f"({text},)", {**STAGES, **RULES}) if text else ()
    return stages
