"""Beyond the paper. Which feature map of which layer carries local information, in any model, without text.

Each class is the mean of its patch features over one half of the pictures; the patches of the other half take the nearest
class. mIoU of X_res, X_attn and X_sum for every layer.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "prototypes"


def figure(dataset: "xr.Dataset") -> "Figure":
    """mIoU of nearest prototypes against the layer."""
    from analysis import plots

    return plots.prototypes(dataset)
