"""Any result file of ours for pandas, in one call: `analysis.read_rows("results/entropy.nc")`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import xarray as xr

from analysis.attribution import maps as attribution
from analysis.attribution import peak_tables
from analysis.attribution import run as components
from analysis.probes import attention, feature_maps, label_maps, pca, similarity
from analysis.probes import table as statistics
from analysis.prototypes import table as prototypes
from analysis.textspan import table as textspan
from clearclip.errors import UserError
from clearclip.evaluation import table as sweeps
from clearclip.runs import results
from clearclip.runs.validation import check, kind_of

TIDY: dict[str, Callable[[xr.Dataset], pd.DataFrame]] = {  # of `FORMATS` → the rows that its commands write as .csv
    "statistics": statistics.tidy,
    "stream statistics": statistics.tidy,
    "label maps": label_maps.tidy,
    "sweep": sweeps.tidy,
    "prototypes": prototypes.tidy,
    "attention": attention.tidy,
    "feature maps": feature_maps.tidy,
    "PCA maps": pca.tidy,
    "similarity": similarity.tidy,
    "attribution": attribution.tidy,
    "components": components.tidy,
    "peaks": peak_tables.tidy,
    "texts of heads": textspan.tidy,
    "head prototypes": prototypes.tidy,
}


def read_rows(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A finished result as one row per number or case, ready for `groupby`, `merge` and `pivot`.

    Args:
        path: the .nc file that a command, or `Dataset.to_netcdf`, has written.

    Returns: the rows of the .csv beside it: for statistics one per source, model, layer, feature, tokens and statistic; for
    sweeps and prototypes one per model, data set, recipe (or layer and feature) and class, with the class "mean" for the mIoU;
    for maps what their command prints of each. `random_weights` says whether a model was never trained.
    Raises: `UserError` if the file is missing, damaged or unfinished, or of something else.

    >>> import tempfile, analysis, clearclip
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = analysis.collect(clearclip.load("clip_tiny"), limit=2, progress=False)
    ...     results.write(result, Path(folder, "entropy.nc"))
    ...     rows = read_rows(f"{folder}/entropy.nc")
    >>> rows[rows.statistic == "entropy"].columns.tolist()
    ['source', 'model', 'layer', 'feature', 'tokens', 'statistic', 'mean', 'std', 'images', 'random_weights']
    """
    file = Path(path)
    dataset = results.read(file)
    kind = kind_of(dataset, file)
    if not kind:
        raise UserError(f"{file} is not a result of this toolkit: name a file that holds {', '.join(TIDY)}.")
    check(dataset, kind, file)
    if kind == "statistics" and not any("image" in variable.dims for variable in dataset.data_vars.values()):
        raise UserError(
            f"{file} has averages over pictures only, and no number of single ones: use xarray.open_dataset."
        )
    return TIDY[kind](dataset)
