"""What stands around the panels: one legend above them, and small print below that says what was measured."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.plots.style import PUBLISHED, PUBLISHED_STYLE, SMALL_PRINT, Look
from analysis.probes.over_images import spread_name
from analysis.sweeps.labels import dataset_label
from clearclip.evaluation.protocol import of_dataset
from clearclip.runs import results

TOKENS = {"patches": "patch tokens", "all": "all tokens (CLS and registers included)"}

# legends --------------------------------------------------------------------------------------------------------------


def panel_legend(figure: Figure, axes: Axes) -> None:
    """One legend of what is labeled in one panel, above all of them, in one row."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=2.4, columnspacing=1.6)


def bar_legend(figure: Figure, styles: Mapping[str, Look], names: Sequence[str]) -> None:
    """One legend of filled patches, above the panels."""
    _legend(figure, [Patch(color=styles[name]["color"], label=styles[name].get("label", name)) for name in names])


def marker_legend(figure: Figure, styles: Mapping[str, Look], names: Sequence[str]) -> None:
    """One legend of markers without lines, above the panels."""
    _legend(figure, [Line2D([], [], linestyle="none", **{"label": name, **styles[name]}) for name in names])


def method_legend(figure: Figure, styles: Mapping[str, Look]) -> None:
    """One legend of colored lines with markers, one name per method, above the panels."""
    _legend(figure, [Line2D([], [], label=name, **look) for name, look in styles.items()])


def line_legend(figure: Figure) -> None:
    """One legend of everything that is labeled in any panel, above them."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label != PUBLISHED:
                handles.setdefault(label, handle)
    _legend(figure, list(handles.values()))


def _legend(figure: Figure, handles: list[Any]) -> None:
    """One legend above the panels, in as few rows as its width allows; the figure grows by the rows above one."""
    handles = [*handles, *_published_handle(figure)]
    widths = [0.36 + 0.06 * len(re.sub(r"\\\w+|[${}_]", "", str(handle.get_label()))) for handle in handles]  # inches
    rows = -(-sum(widths) // (figure.get_figwidth() - 0.1))
    columns = int(-(-len(handles) // rows))
    grow(figure, 0.17 * (-(-len(handles) // columns) - 1))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=columns,
        fontsize=7.5,
        handlelength=1.6,
        handletextpad=0.6,
        columnspacing=1.2,
    )


def _published_handle(figure: Figure) -> list[Line2D]:
    """The legend's entry for open markers, if there are any."""
    marked = any(line.get_label() == PUBLISHED for axes in figure.axes for line in axes.lines)
    return [Line2D([], [], linestyle="none", marker="d", label=PUBLISHED, **PUBLISHED_STYLE)] if marked else []


def grow(figure: Figure, height: float) -> None:
    """Add inches to a figure's height, so that text around the panels takes nothing from them."""
    figure.set_figheight(figure.get_figheight() + height)


# small print ----------------------------------------------------------------------------------------------------------


def statistics_caption(figure: Figure, dataset: xr.Dataset, tokens: str, band: bool = True) -> None:
    """A small line below a figure of statistics: how many images at which size, which tokens, what a band is."""
    sizes = ", ".join(map(str, sorted({int(size) for size in np.atleast_1d(dataset.image_size)})))
    images = dataset.attrs["images"]
    parts = [f"mean over {images} images at {sizes} px", TOKENS[tokens]]
    parts += [f"band: {spread_name(dataset)}"] if band and images > 1 else []
    small_print(figure, " · ".join(parts), shipped(dataset))


def sweep_caption(figure: Figure, dataset: xr.Dataset, names: Sequence[str], more: str = "") -> None:
    """Small lines below the figure of a sweep: which data sets with how many images, and what else is to be known."""
    parts = images(dataset, names).replace(" (", "\u00a0(").replace(" images", "\u00a0images")
    protocol = f" · protocol {of_dataset(dataset)}" if "protocol" in dataset.coords else ""
    lines = textwrap.wrap(parts + protocol + (f" · {more}" if more else ""), int(figure.get_figwidth() * 19))
    lines += [line] if (line := shipped(dataset)) else []
    grow(figure, 0.11 * (len(lines) - 1))
    small_print(figure, *lines)


def small_print(figure: Figure, *lines: str) -> None:
    """Lines of small print below the panels; empty ones are left out."""
    figure.supxlabel("\n".join(line for line in lines if line), **SMALL_PRINT)


def images(dataset: xr.Dataset, names: Sequence[str]) -> str:
    """Which data sets, with how many images each, as one line of text."""
    counts = dataset.images.sel(dataset=list(names)).max("model").values.astype(int)
    parts = [f"{dataset_label(name)} ({count:,})" for name, count in zip(names, counts, strict=True)]
    parts[0] = parts[0].removesuffix(")") + f" image{'s' * int(counts[0] != 1)})"
    return ", ".join(parts).replace("\n", " ")


def shipped(dataset: xr.Dataset) -> str:
    """A line that names the small trained models that come with the package, if a Dataset has any, or nothing."""
    names = list(results.shipped_models(dataset))
    return f"{' and '.join(names)}: small, trained on drawn scenes, shipped with the toolkit" if names else ""
