"""Fig. 7. Label maps of CLIP, MaskCLIP, SCLIP and ClearCLIP beside photo and ground truth; in the paper, of COCO-Stuff.

Which model and which pictures are shown stands above the maps.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "maps_fig7"
SHOWN = ("clip", "maskclip", "sclip", "clearclip")


def figure(dataset: "xr.Dataset") -> "Figure":
    """A row a picture (and model), one legend for all."""
    from analysis import plots
    from analysis.plots.style import DOUBLE

    return plots.label_maps(dataset, SHOWN, width=DOUBLE)
