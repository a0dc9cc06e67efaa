"""Beyond the paper. mIoU of X_res, X_attn and X_sum of every layer, each read with the text as if it were the last.

A "logit lens" for patches: it shows from which layer on which feature map speaks the language of the text. The last layer is
the paper's Fig. 3.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "layers"


def figure(dataset: "xr.Dataset") -> "Figure":
    """mIoU against the layer, a column a model, a row a dataset."""
    from analysis import plots

    return plots.layers(dataset)
