"""Fig. 4c. Channel means of X_res, X_attn and X_sum, normalised to 0 … 1 in each image and sorted, for every layer.

In the paper's CLIP-B/16 a few channels carry X_res in the last layers; in its DINO-B/16 the channels stay alike. The paper
does not say how it normalises; here it is min–max per image.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "statistics"


def figure(dataset: "xr.Dataset") -> "Figure":
    """Sorted channel means against the channel's rank; a row a model, a column a feature, a colour a layer."""
    from analysis import plots

    return plots.channels(dataset)
