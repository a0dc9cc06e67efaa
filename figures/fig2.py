"""Fig. 2. Frobenius norms of X_res and X_attn in the last block (bars) and mIoU (line) for each kind of attention.

In the paper mIoU follows the norm of X_attn, and X_res is much stronger in ViT-L/14 than in ViT-B/16. Open markers are its values.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "norms_miou"


def figure(dataset: "xr.Dataset") -> "Figure":
    """Bars and line per attention; a column a model, COCO-Stuff as in the paper where it was measured, else every dataset."""
    from analysis import plots

    return plots.norms_and_miou(dataset.sel(dataset=["coco_stuff"]) if "coco_stuff" in dataset.dataset else dataset)
