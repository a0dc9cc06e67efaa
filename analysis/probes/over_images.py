"""Mean and spread over pictures: from the values of single pictures, or from the moments that are kept of a stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

MOMENTS = ("mean", "std")  # what is kept where the pictures are too many for one Dataset
SHARE = 0.8  # of the pictures, between the ends of a spread


def mean(values: xr.DataArray) -> xr.DataArray:
    """The mean over pictures of values along `image` or `moment`.

    >>> mean(xr.DataArray([1.0, 3.0], dims="image")).item()
    2.0
    >>> mean(xr.DataArray([2.0, 1.0], {"moment": ["mean", "std"]}, "moment")).item()
    2.0
    """
    return values.sel(moment="mean", drop=True) if "moment" in values.dims else values.mean("image")


def std(values: xr.DataArray) -> xr.DataArray:
    """The standard deviation over pictures."""
    return values.sel(moment="std", drop=True) if "moment" in values.dims else values.std("image")


def spread(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Between which values most pictures lie: 80 % of them, or one standard deviation to each side where only that is kept."""
    if "moment" in values.dims:
        return mean(values) - std(values), mean(values) + std(values)
    low, high = values.quantile([(1 - SHARE) / 2, (1 + SHARE) / 2], "image")
    return low, high


def spread_name(dataset: xr.Dataset) -> str:
    """What `spread` is, in words."""
    return "± one std" if "moment" in dataset.dims else f"{100 * SHARE:.0f} % of the images"


def count(values: xr.DataArray) -> int:
    """How many pictures values are of."""
    return int(np.max(values.pictures)) if "moment" in values.dims else values.sizes["image"]


def by_source(values: xr.DataArray) -> Iterator[tuple[str, xr.DataArray]]:
    """The values of each source of pictures, in the order of the pictures."""
    if "moment" in values.dims:
        yield str(np.atleast_1d(values.source)[0]), values
        return
    for source in dict.fromkeys(values.source.values.tolist()):
        yield source, values.isel(image=values.source.values == source)
