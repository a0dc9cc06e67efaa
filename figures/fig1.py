"""Fig. 1, left. What the text finds in X_sum, X_res and X_attn of the last block, and in ClearCLIP, on one picture.

In the paper's CLIP the noise of X_sum is that of X_res, while X_attn is clean; ClearCLIP is X_attn with q-q attention.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "maps_fig7"
SHOWN = ("X_sum", "X_res", "X_attn", "clearclip")


def figure(dataset: "xr.Dataset") -> "Figure":
    """Photo, ground truth and four label maps of the picture in which most classes occur, a row a model."""
    from analysis import plots
    from analysis.plots.style import DOUBLE

    return plots.label_maps(dataset, SHOWN, [richest(dataset)], width=DOUBLE)


def richest(dataset: "xr.Dataset") -> int:
    """Which picture has most classes, each at least 1 % of it; the first one where there are no true labels."""
    import numpy as np

    if "truth" not in dataset:
        return 0
    classes = dataset.sizes["class"]
    counts = []
    for image in range(dataset.sizes["image"]):
        pixels = np.bincount(dataset.truth.isel(image=image).values.ravel(), minlength=classes)[:classes]
        counts.append(int((pixels > 0.01 * pixels.sum()).sum()))
    return int(np.argmax(counts))
