"""Table 5. ClearCLIP added to other methods (MaskCLIP, SCLIP, GEM) and to other models.

Means are computed from the rows: the paper prints 29.5 and 37.9 for MaskCLIP and SCLIP with ClearCLIP on ViT-B, where its rows give
29.3 and 37.0. MaskCLIP on ViT-B/16 is quoted from TCL, which has another protocol.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

NEEDS = "compare"
METHODS = (
    "clip",
    "clearclip",
    *(name for base in ("maskclip", "sclip", "gem") for name in (base, f"{base}+clearclip")),
)


def table(dataset: "xr.Dataset") -> "pd.DataFrame":
    """Rows are models and methods without and with ClearCLIP, each measured, published, difference; mIoU in %."""
    from analysis.sweeps import published
    from analysis.sweeps.labels import METHOD_LABEL
    from analysis.sweeps.table import beside
    from clearclip.methods.recipes import RECIPES
    from figures import tables

    names = tables.columns(dataset, published.WITHOUT_BACKGROUND, background=False)
    wanted = [RECIPES[name] for name in METHODS]
    rows = beside(dataset, published.table(5), wanted, names, published.WITHOUT_BACKGROUND)
    rows["method"] = rows.recipe.map({**METHOD_LABEL, "clip": "unchanged"})
    order = {model: place for place, model in enumerate(dict.fromkeys(rows.model))}
    rows = rows.sort_values("model", key=lambda column: column.map(order), kind="stable")
    return tables.finished(rows, dataset, ["model", "method", "numbers"], names)
