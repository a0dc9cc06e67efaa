"""One number for every layer and head, as colors with the number in each cell."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.legends import grow, shipped, small_print, sweep_caption
from analysis.plots.panels import title
from analysis.plots.style import TEXT
from analysis.prototypes import table as prototype_table
from analysis.sweeps.labels import mean_label
from analysis.textspan import table as text_table
from clearclip.segmentation.style import style

CELL = 0.29  # inches: room for a number of two or three digits


def heat_map(axes: Axes, values: xr.DataArray, color: str = "viridis") -> None:
    """Layers from top to bottom, heads from left to right, each cell with its number; 0 is the darkest.

    Args:
        axes: the panel.
        values: (layer, head), of numbers that are 0 or more and are shown without decimals.
        color: a colormap of matplotlib.
    """
    shown = values.transpose("layer", "head")
    image = axes.imshow(shown, cmap=color, vmin=0, vmax=float(np.nanmax(np.append(shown, 1e-12))), aspect="auto")
    axes.set_xticks(range(shown.sizes["head"]), shown["head"].values.tolist())
    axes.set_yticks(range(shown.sizes["layer"]), shown["layer"].values.tolist())
    axes.tick_params(length=0, labelsize=6.5)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="head", ylabel="layer")
    for (row, column), value in np.ndenumerate(shown.values):
        if np.isfinite(value):
            red, green, blue, _ = image.to_rgba(value)
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=6.5, color="white" if dark else "black"
            )


def _panels(rows: int, columns: int, cells: tuple[int, int]) -> tuple[Figure, np.ndarray]:
    """Panels for heat maps of at most this many layers and heads; the figure and its axes (rows, columns)."""
    layers, heads = cells
    size = (max(columns * (heads * CELL + 0.55), TEXT), rows * (max(layers, 3) * 0.75 * CELL + 0.75) + 0.3)
    return plt.subplots(rows, columns, figsize=size, squeeze=False)


def prototype_heads(dataset: xr.Dataset) -> Figure:
    """mIoU in percent of every head by nearest prototypes; a row per model and data set, a column per similarity.

    Args:
        dataset: as `python -m analysis.prototypes --heads` writes it.
    """
    panels = list(prototype_table.panels(dataset))
    similarities = dataset.similarity.values.tolist()
    names = dataset.dataset.values.tolist()
    with style():
        cells = (dataset.sizes["layer"], dataset.sizes["head"])
        figure, axes = _panels(len(panels), len(similarities), cells)
        for row, panel in zip(axes, panels, strict=True):
            for cell, similarity in zip(row, similarities, strict=True):
                heat_map(cell, panel.miou.sel(similarity=similarity))
                title(cell, dataset, panel.model.item())
                where = "" if len(names) == 1 else f"{mean_label([panel.dataset.item()])}, "
                cell.set_title(f"{cell.get_title()}\n{where}{similarity}")
        what = "nearest class prototype from the other half, in the A·v of one head"
        sweep_caption(figure, dataset, names, f"mIoU in % · {what} · colors from 0 to each panel's largest")
    return figure


def textspan_share(dataset: xr.Dataset) -> Figure:
    """How much of the variance of every head its texts explain together, in percent; a column per model.

    Args:
        dataset: as `python -m analysis.textspan` writes it.
    """
    panels = list(text_table.panels(dataset))
    with style():
        figure, axes = _panels(1, len(panels), (dataset.sizes["layer"], dataset.sizes["head"]))
        for cell, panel in zip(axes[0], panels, strict=True):
            heat_map(cell, 100 * panel.variance_share.max("rank"))
            title(cell, dataset, panel.model.item())
        lines = (
            f"% of the variance of each head in the directions of its {dataset.sizes['rank']} texts",
            f"what heads add to {text_table.tokens(dataset)} of {dataset.attrs['images']} pictures",
            shipped(dataset),
        )
        grow(figure, 0.11 * (len(list(filter(None, lines))) - 1))
        small_print(figure, *lines)
    return figure
