"""The texts of attention heads, as a table whose colors say how much each text explains."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.legends import shipped, small_print
from analysis.plots.panels import title
from analysis.textspan.table import panels, strongest, tokens
from clearclip.segmentation.style import style

HEADS, TEXTS = 24, 4  # shown at most
WIDTH, HEIGHT = 1.75, 0.17  # of a cell, in inches
PALE = 0.3  # the gain whose cell is as dark as cells become, if none is larger
LONGEST = 30  # characters of a text that a cell has room for


def textspan(dataset: xr.Dataset) -> Figure:
    """One row per head: its first texts, each cell the darker the more of the head's variance the text explains.

    Where a model has more heads than the table has rows, they are those whose contributions vary most.

    Args:
        dataset: as `python -m analysis.textspan` writes it, of one or several models.
    """
    of_models = list(panels(dataset))
    rows = [min(HEADS, panel.sizes["layer"] * panel.sizes["head"]) for panel in of_models]
    columns = min(TEXTS, dataset.sizes["rank"])
    with style():
        size = (columns * WIDTH + 0.9, sum(rows) * HEIGHT + 0.45 * len(rows) + 0.45)
        figure, axes = plt.subplots(len(rows), figsize=size, squeeze=False, height_ratios=rows)
        for axis, panel in zip(axes[:, 0], of_models, strict=True):
            _draw(axis, panel, columns)
            title(axis, dataset, panel.model.item())
        fewer = any(
            count < panel.sizes["layer"] * panel.sizes["head"] for count, panel in zip(rows, of_models, strict=True)
        )
        small_print(
            figure,
            f"in each cell: the share of the variance that the text adds · what heads add to {tokens(dataset)} "
            f"of {dataset.attrs['images']} pictures",
            f"the {HEADS} heads that vary most" if fewer else "",
            shipped(dataset),
        )
    return figure


def _draw(axes: Axes, panel: xr.Dataset, columns: int) -> None:
    """The table of one model."""
    rows = strongest(panel, HEADS).isel(rank=slice(columns))
    gains = rows.gain.values
    top = max(PALE, float(np.nanmax(np.append(gains, 0))))
    axes.imshow(
        np.nan_to_num(gains), cmap="Blues", vmin=0, vmax=1.8 * top, aspect="auto"
    )  # pale: black letters stand on it
    for (row, column), gain in np.ndenumerate(gains):
        if np.isfinite(gain):
            text = rows.text.values[row, column]
            short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
            axes.text(column - 0.47, row, short, ha="left", va="center", fontsize=6.5)
            axes.text(column + 0.47, row, f"{100 * gain:.0f} %", ha="right", va="center", fontsize=6.5)
    axes.set_xticks(range(columns), ["first text", "second", "third", "fourth"][:columns])
    names = zip(rows["layer"].values, rows["head"].values, strict=True)
    axes.set_yticks(range(rows.sizes["row"]), [f"layer {layer} head {head}" for layer, head in names])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=6.5)
    axes.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(rows.sizes["row"] - 1) + 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(False)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.spines[:].set_visible(False)
