"""Fig. 1, right: methods on all benchmarks as a radar, or as bars where only one or two other datasets were measured."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.legends import method_legend, sweep_caption
from analysis.plots.panels import title
from analysis.plots.style import DOUBLE, METHOD_STYLE, SINGLE
from analysis.sweeps import published
from analysis.sweeps.labels import dataset_label
from analysis.sweeps.published import BENCHMARKS
from analysis.sweeps.read import find
from clearclip.methods.recipes import RECIPES
from clearclip.methods.titles import METHOD_LABEL
from clearclip.segmentation.style import style

METHODS = ("clip", "maskclip", "TCL", "clearclip")
PAPER = "clip_vitb16"

Values = dict[str, dict[str, float]]  # method → dataset → mIoU


def methods_on_benchmarks(dataset: xr.Dataset) -> Figure:
    """A radar for each model that was measured on a benchmark; the published one and bars for models that were not."""
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    benchmarks = [name for name in BENCHMARKS if name in names]
    spokes = list(BENCHMARKS) if benchmarks else names
    spokes += [name for name in names if name not in spokes]
    round_panels = bool(benchmarks) or len(names) > 2
    panels: list[str | None] = [*([] if benchmarks else [None]), *models]
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    with style():
        width = {1: SINGLE, 2: DOUBLE}[columns]
        figure = plt.figure(figsize=(width, 3.0 * rows + 0.5))
        for place, model in enumerate(panels):
            polar = model is None or round_panels
            axes = figure.add_subplot(rows, columns, place + 1, projection="polar" if polar else None)
            if model is None:
                draw_radar(axes, {}, printed(PAPER), list(BENCHMARKS))
                axes.set_title(f"{PAPER}, published")
                continue
            here = measured(dataset, model)
            if round_panels:
                draw_radar(axes, here, printed(model), spokes)
            else:
                draw_bars(axes, here, names)
            title(axes, dataset, model)
        known = [
            method
            for method in METHODS
            if any(axes.get_legend_handles_labels()[1].count(label(method)) for axes in figure.axes)
        ]
        method_legend(figure, {label(method): METHOD_STYLE[method] for method in known})
        sweep_caption(
            figure, dataset, names, "solid: measured, dashed: published" if round_panels else "bars: measured"
        )
    return figure


def label(method: str) -> str:
    """A method as the legend calls it."""
    return METHOD_LABEL.get(method, method)


def measured(dataset: xr.Dataset, model: str) -> Values:
    """What was measured of this figure's methods with one model."""
    names = {method: find(dataset, RECIPES[method]) for method in METHODS if method in RECIPES}
    miou = dataset.miou.sel(model=model)
    return {
        method: {str(cell.dataset.item()): float(cell) for cell in miou.sel(recipe=name)}
        for method, name in names.items()
        if name is not None
    }


def printed(model: str) -> Values:
    """What is published of this figure's methods for one model; TCL belongs to the paper's CLIP-B/16."""
    values = {
        method: {name: published.value(model, name, method) for name in published.BENCHMARKS} for method in METHODS
    }
    if model == PAPER:
        for number in (2, 3):
            rows = published.table(number).query("method == 'TCL'")
            values["TCL"].update(zip(rows.dataset, rows.miou, strict=True))
    return {
        method: {name: value for name, value in row.items() if value is not None and name in published.BENCHMARKS}
        for method, row in values.items()
    }


def draw_radar(axes: Axes, solid: Values, dashed: Values, spokes: list[str]) -> None:
    """One closed line per method over all spokes; a line breaks where a value is missing."""
    angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
    largest = {
        name: max(
            [row[name] for values in (solid, dashed) for row in values.values() if row.get(name, 0) > 0], default=1.0
        )
        for name in spokes
    }
    around = np.append(angles, angles[0])
    for values, look in ((dashed, _OPEN), (solid, _FILLED)):
        for method, row in values.items():
            share = np.array([row.get(name, np.nan) / largest[name] for name in [*spokes, spokes[0]]])
            if not np.isnan(share).all():
                line = {**METHOD_STYLE[method], **look}
                axes.plot(around, share, label=label(method), zorder=3, **{**line, "markeredgecolor": line["color"]})
                if method == "clearclip" and not np.isnan(share).any() and (values is solid or not solid):
                    axes.fill(around, share, color=line["color"], alpha=0.08, linewidth=0)
    axes.set_theta_offset(np.pi / 2)  # type: ignore[attr-defined]
    axes.set_theta_direction(-1)  # type: ignore[attr-defined]
    axes.set_xticks(angles, [f"{dataset_label(name)}\n{largest[name]:.1f}" for name in spokes])
    for angle, text in zip(angles, axes.get_xticklabels(), strict=True):
        text.set_horizontalalignment("center" if abs(np.sin(angle)) < 0.1 else "left" if np.sin(angle) > 0 else "right")
    axes.tick_params(axis="x", pad=0, labelsize=7)
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0.25, 0.5, 0.75, 1], [])
    axes.spines["polar"].set_visible(False)


_OPEN: dict[str, Any] = {"linestyle": (0, (3, 1.5)), "linewidth": 1.0, "markerfacecolor": "white", "markersize": 5.5}
_FILLED: dict[str, Any] = {"linestyle": "-", "linewidth": 1.3, "markersize": 3}


def draw_bars(axes: Axes, values: Values, names: list[str]) -> None:
    """Bars of the methods for each of one or two datasets."""
    width = 0.8 / max(len(values), 1)
    for step, (method, row) in enumerate(values.items()):
        places = [place + (step - (len(values) - 1) / 2) * width for place in range(len(names))]
        color = METHOD_STYLE[method]["color"]
        bars = axes.bar(places, [row[name] for name in names], 0.92 * width, color=color, label=label(method))
        axes.bar_label(bars, fmt="%.1f", fontsize=6.5, padding=1)
    axes.set_xticks(range(len(names)), [dataset_label(name) for name in names])
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("mIoU (%)")
