from . import plots
from .probes.attention import attention_maps
from .probes.collection import collect
from .probes.probe import Probe
from .probes.statistics import STATISTICS, Statistic
from .shards.collection import collect_shards
from .shards.parts import open_parts
from .table import table

__all__ = [
    "STATISTICS",
    "Probe",
    "Statistic",
    "attention_maps",
    "collect",
    "collect_shards",
    "open_parts",
    "plots",
    "table",
]
