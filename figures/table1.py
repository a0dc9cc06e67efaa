"""Table 1. Ablation of the last block: residual connection (RC) and FFN on or off, with q-q attention.

The paper's rows are of CLIP-B/16. Means are over the five benchmarks without a background class.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

NEEDS = "ablation"


def table(dataset: "xr.Dataset") -> "pd.DataFrame":
    """Rows are models and the four variants, each measured, published, difference; columns are datasets; mIoU in %."""
    from analysis.sweeps import published, recipe_lists
    from analysis.sweeps.table import beside
    from figures import tables

    wanted = {one.name: one for one in recipe_lists.ablation() if one.affinity == "qq"}
    names = tables.columns(dataset, published.WITHOUT_BACKGROUND, background=False)
    rows = beside(dataset, published.table(1), list(wanted.values()), names, published.WITHOUT_BACKGROUND)
    for place, (column, knob) in enumerate((("RC", "residual"), ("FFN", "ffn"))):
        rows.insert(place, column, ["on" if getattr(wanted[name], knob) else "off" for name in rows.recipe])
    rows.insert(0, "attention", "q-q")
    return tables.finished(rows, dataset, ["model", "attention", "RC", "FFN", "numbers"], names)
