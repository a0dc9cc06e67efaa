"""Fig. 5. Mean mIoU for each kind of attention in the last block: as it is, without FFN, without residual connection (RC), and
without both.

Means are over the benchmarks without a background class that were measured, or else over all datasets, which the small print
names. Open markers are the paper's values, over the same datasets.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "ablation"


def figure(dataset: "xr.Dataset") -> "Figure":
    """Bars per attention and variant, a panel a model."""
    from analysis import plots

    return plots.ablation(dataset)
