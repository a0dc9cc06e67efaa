"""Fig. 6. mIoU when the last block hands on X_res + α·X_attn, for each kind of attention, without FFN.

In the paper a larger α is always better. Means are over the benchmarks without a background class that were measured, or else
over all datasets. The open marker is the paper's value at α = 1 (its Table 1).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "alpha"


def figure(dataset: "xr.Dataset") -> "Figure":
    """mIoU against α, a line an attention, a panel a model."""
    from analysis import plots

    return plots.alpha(dataset)
