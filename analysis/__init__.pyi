from . import plots
from .attribution.maps import attribute
from .attribution.run import worth
from .probes.attention import attention_maps
from .probes.collection import collect
from .probes.probe import Probe
from .probes.statistics import STATISTICS, Statistic
from .table import table

__all__ = ["STATISTICS", "Probe", "Statistic", "attention_maps", "attribute", "collect", "plots", "table", "worth"]
