from . import plots
from .attribution.maps import attribute
from .attribution.run import worth
from .probes.attention import attention_maps
from .probes.collection import collect
from .probes.probe import Probe
from .probes.statistics import STATISTICS, Statistic
from .rows import read_rows
from .scale.collection import collect_shards
from .scale.parts import open_parts
from .shards.dataset import TokenShards
from .shards.writing import export_tokens
from .table import table

__all__ = [
    "STATISTICS",
    "Probe",
    "Statistic",
    "TokenShards",
    "attention_maps",
    "attribute",
    "collect",
    "collect_shards",
    "export_tokens",
    "open_parts",
    "plots",
    "read_rows",
    "table",
    "worth",
]
