"""Probes into vision transformers, what they measure, and the commands `python -m analysis.<question>`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.collection import collect
    from analysis.probe import Probe
    from analysis.statistics import STATISTICS, Statistic

__all__ = ["STATISTICS", "Probe", "Statistic", "collect"]

_HOME = {"collect": "collection", "Probe": "probe", "Statistic": "statistics", "STATISTICS": "statistics"}


def __getattr__(name: str) -> Any:
    """Import torch only when something is used, so that every --help answers at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"analysis.{_HOME[name]}"), name)
