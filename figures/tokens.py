"""Beyond the paper. Tokens that stand out: outlier norms, dominant channels, effective rank and mean cosine of every layer.

Below, where in the picture the tokens of X_sum are long, averaged over the pictures.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "tokens"


def figure(dataset: "xr.Dataset") -> "Figure":
    """Five statistics of the tokens against the layer, a column a model, above a map of the token norms."""
    from analysis import plots

    return plots.tokens(dataset)
