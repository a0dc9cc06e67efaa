"""Stages of recipes, one file each: `STAGES` holds their classes by name."""

from __future__ import annotations

from clearclip.interventions.text import CHANGES
from clearclip.methods.stages.aggregate import Aggregate, AggregateAfter
from clearclip.methods.stages.aggregate_whole import AggregateWhole
from clearclip.methods.stages.alone import PatchesOnly
from clearclip.methods.stages.branch import Branch
from clearclip.methods.stages.cls import AddCls
from clearclip.methods.stages.first_pass import FirstPass
from clearclip.methods.stages.intervene import Intervene
from clearclip.methods.stages.merge import MergeRegions
from clearclip.methods.stages.outliers import RULES
from clearclip.methods.stages.pamr import Pamr
from clearclip.methods.stages.propagate import Propagate
from clearclip.methods.stages.propagate_pixels import PropagatePixels
from clearclip.methods.stages.region_cls import RegionCls
from clearclip.methods.stages.repair import Repair
from clearclip.methods.stages.scga import Scga
from clearclip.methods.stages.stage import Stage
from clearclip.methods.stages.surgery import Surgery
from clearclip.methods.stages.vote import Vote
from clearclip.written import read as read_written

__all__ = [
    "STAGES",
    "AddCls",
    "Aggregate",
    "AggregateAfter",
    "AggregateWhole",
    "Branch",
    "FirstPass",
    "Intervene",
    "MergeRegions",
    "Pamr",
    "PatchesOnly",
    "Propagate",
    "PropagatePixels",
    "RegionCls",
    "Repair",
    "Scga",
    "Surgery",
    "Vote",
    "read",
    "write",
]

STAGES: dict[str, type[Stage]] = {
    kind.__name__: kind
    for kind in (
        AddCls,
        Aggregate,
        AggregateAfter,
        AggregateWhole,
        Branch,
        FirstPass,
        Intervene,
        MergeRegions,
        Pamr,
        PatchesOnly,
        Propagate,
        PropagatePixels,
        RegionCls,
        Repair,
        Scga,
        Surgery,
        Vote,
    )
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
    stages: tuple[Stage, ...] = read_written(f"({text},)", {**STAGES, **RULES, **CHANGES}) if text else ()
    return stages
