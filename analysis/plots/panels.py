"""How panels are laid out, named, and marked with published values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.plots.style import ATTENTION_LABEL, DOUBLE, PUBLISHED, PUBLISHED_STYLE, SINGLE, TEXT
from analysis.sweeps.labels import dataset_label, mean_label
from clearclip.segmentation.style import WARNING_COLOR

# layouts --------------------------------------------------------------------------------------------------------------


def free_panels(
    rows: int, columns: int, width: float = 2.3, height: float = 1.95, **kwargs: Any
) -> tuple[Figure, np.ndarray]:
    """Panels of a given size in inches, the figure as wide as they need; the figure and its axes (rows, columns)."""
    size = (max(columns * width, 3.4) + 0.35, rows * height + 0.55)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, **kwargs)


def paper_panels(rows: int, columns: int, height: float, **kwargs: Any) -> tuple[Figure, np.ndarray]:
    """Panels at a paper's width: that of one column, two, or more of them; the figure and its axes (rows, columns)."""
    size = ((SINGLE, TEXT, DOUBLE)[min(columns, 3) - 1], rows * height + 0.6)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, **kwargs)


def model_panels(dataset: xr.Dataset, height: float = 1.75) -> tuple[Figure, np.ndarray]:
    """A panel for each model, (models,): one in a single column, two or four in the text's width, three in both columns."""
    count = dataset.sizes["model"]
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    rows = -(-count // columns)
    figure, axes = paper_panels(rows, columns, height, sharey=True)
    for panel in axes.flat[count:]:
        panel.remove()
    return figure, axes.flat[:count]


def dataset_panels(
    dataset: xr.Dataset, height: float = 1.35, sharex: bool = True, sharey: bool = False
) -> tuple[Figure, np.ndarray]:
    """A row for each model and a column for each data set, named along the edges; every panel has its own scale of mIoU."""
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    height += 0.35 if len(names) < 3 and height < 1.5 else 0
    figure, axes = paper_panels(len(models), len(names), height, sharex=sharex, sharey=sharey)
    for row, model in zip(axes, models, strict=True):
        if len(names) == 1:
            title(row[0], dataset, model)
            row[0].set_ylabel(f"{mean_label(names)}\nmIoU (%)")
        else:
            row[0].set_ylabel(f"{model}\nmIoU (%)")
            if bool(dataset.random_weights.sel(model=model)):
                row[0].set_ylabel(f"{model}\nrandom weights\nmIoU (%)", color=WARNING_COLOR)
        for panel in row:
            panel.tick_params(labelsize=6 if len(names) > 4 else 7, pad=2)
            panel.tick_params(axis="x", labelrotation=90 if len(names) > 4 else 0)
    if len(names) > 1:
        for panel, name in zip(axes[0], names, strict=True):
            panel.set_title(dataset_label(name), fontsize=6.2 if len(names) > 4 else 7.5)
    return figure, axes


# names and axes -------------------------------------------------------------------------------------------------------


def title(axes: Axes, dataset: xr.Dataset, model: str) -> None:
    """Name the model above its panel, with a warning if its weights are random."""
    random = bool(dataset.random_weights.sel(model=model))
    axes.set_title(f"{model}\nrandom weights" if random else model, color=WARNING_COLOR if random else "black")


def label_rows(axes: np.ndarray, text: str) -> None:
    """The y label, at the first panel of each row only."""
    for panel in axes:
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel(text)


def label_columns(axes: np.ndarray, text: str) -> None:
    """The x label, at panels that have none below."""
    below = max(panel.get_subplotspec().rowspan.start for panel in axes)
    for panel in axes:
        if panel.get_subplotspec().rowspan.start == below or len(axes) == 3:
            panel.set_xlabel(text)


def layer_axis(axes: Axes, layers: Sequence[int]) -> None:
    """Layers are whole numbers, counted from 1."""
    axes.set_xlim(min(layers) - 0.4, max(layers) + 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    axes.set_xlabel("layer")


def attention_axis(axes: Axes, attentions: Sequence[str]) -> None:
    """One place for each kind of attention, 0, 1, 2, …"""
    axes.set_xticks(range(len(attentions)), [ATTENTION_LABEL[attention] for attention in attentions])
    axes.grid(axis="x", visible=False)


def log_axis(axes: Axes) -> None:
    """A logarithmic axis with plain numbers, also where it spans less than a decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def axis_label(variable: xr.DataArray) -> str:
    """A variable's name and unit, for an axis."""
    name, units = variable.attrs["long_name"], variable.attrs["units"]
    return name if units == "1" else f"{name} ({units})"


def mark_published(axes: Axes, x: float, miou: float | None, **look: Any) -> None:
    """An open diamond at a published value, nothing where there is none."""
    if miou is not None:
        axes.plot(x, miou, "d", label=PUBLISHED, zorder=1.9, **{**PUBLISHED_STYLE, **look})
