"""Probes into vision transformers, what they measure, and the commands `python -m analysis.<question>`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.probes.collection import collect
    from analysis.probes.probe import Probe
    from analysis.probes.statistics import STATISTICS, Statistic

__all__ = ["STATISTICS", "Probe", "Statistic", "collect"]

_HOME = {
    "collect": "probes.collection",
    "Probe": "probes.probe",
    "Statistic": "probes.statistics",
    "STATISTICS": "probes.statistics",
}


def __getattr__(name: str) -> Any:
    """Import torch only when something is used, so that every --help answers at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"analysis.{_HOME[name]}"), name)
