"""Fig. 8. The ablation of Fig. 5 on each dataset by itself.

Every column of markers is one kind of attention in the last block: as it is, without FFN, without residual connection (RC), and
without both. Open markers, a little to the right, are the paper's values; MaskCLIP's (I, as it is) on ViT-B/16 is quoted from TCL,
which has another protocol.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "ablation"


def figure(dataset: "xr.Dataset") -> "Figure":
    """Markers per attention and variant; a row a model, a column a dataset."""
    from analysis import plots

    return plots.ablation_by_dataset(dataset)
