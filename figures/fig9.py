"""Fig. 9. The feature maps themselves, token × channel, of the last layer; the strongest channels are marked.

In the paper's CLIP the peaks of X_res stand in the same few channels in every picture, and X_sum has them from X_res.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "featuremaps"


def figure(dataset: "xr.Dataset") -> "Figure":
    """A row a picture and model, a column a feature."""
    from analysis import plots
    from figures.catalogue import small
    from figures.fig4a import also

    drawn = plots.feature_maps(dataset)
    trained = dataset.model.values[~dataset.random_weights.values.astype(bool)].tolist()
    if small(trained):
        also(drawn, f"{' and '.join(small(trained))}: small, trained on drawn scenes, shipped with the toolkit")
    return drawn
