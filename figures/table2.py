"""Table 2. Methods on the five benchmarks without a background class.

SCLIP as its authors report it uses several names a class; SCLIP* is the paper's own run without them, and what a measured SCLIP
is compared with. MaskCLIP on ViT-B/16 is quoted from TCL, which has another protocol. Means are computed from the rows.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

NEEDS = "compare"


def table(dataset: "xr.Dataset") -> "pd.DataFrame":
    """Rows are methods and models, each measured, published, difference; columns are datasets; mIoU in %."""
    from analysis.sweeps import published, recipe_lists
    from analysis.sweeps.table import beside
    from figures import tables

    wanted = [one for one in recipe_lists.compare() if not one.name.endswith("+clearclip")]
    names = tables.columns(dataset, published.WITHOUT_BACKGROUND, background=False)
    rows = beside(dataset, published.table(2), wanted, names, published.WITHOUT_BACKGROUND)
    return tables.finished(rows, dataset, ["method", "model", "numbers"], names)
