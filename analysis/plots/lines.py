"""A statistic against the layer: one line per feature map, one panel per model, all in one function (paper Figs. 4a, 4b)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.legends import panel_legend, statistics_caption
from analysis.plots.panels import axis_label, free_panels, layer_axis, log_axis, title
from analysis.plots.style import FEATURE_LABEL, FEATURE_STYLE
from analysis.probes import over_images
from clearclip.segmentation.style import style


def layer_lines(
    dataset: xr.Dataset,
    tokens: str = "patches",
    *,
    variable: str,
    scale: str = "linear",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """A statistic of X_res, X_attn, X_sum against the layer; a column per model, a row per source of pictures.

    Args:
        dataset: statistics, as `analysis.collect` gives them.
        tokens: "patches" or "all".
        variable: the statistic, (model, image or moment, layer, feature, tokens).
        scale: "linear", or "log", which stays linear if not every value is positive.
        limits: of the y axis.
    """
    models, sources = dataset.model.values.tolist(), list(over_images.by_source(dataset[variable].sel(tokens=tokens)))
    if scale == "log" and not all(float(_lowest(values)) > 0 for _, values in sources):
        scale = "linear"
    with style():
        figure, axes = free_panels(len(sources), len(models), sharex="col", sharey=True)
        for row, (source, values) in zip(axes, sources, strict=True):
            for panel, model in zip(row, models, strict=True):
                draw_layers(panel, values.sel(model=model))
                if scale == "log":
                    log_axis(panel)
                panel.set_xlabel("")
                if limits is not None:
                    panel.set_ylim(*limits)
            where = f"{Path(source).name} ({over_images.count(values)})\n" if len(sources) > 1 else ""
            row[0].set_ylabel(where + axis_label(dataset[variable]))
        for panel, last, model in zip(axes[0], axes[-1], models, strict=True):
            title(panel, dataset, model)
            last.set_xlabel("layer")
        panel_legend(figure, axes.flat[0])
        statistics_caption(figure, dataset, tokens)
    return figure


entropy = partial(layer_lines, variable="entropy", limits=(-0.03, 1.05))
"""`layer_lines` of the normalized entropy (paper Fig. 4a)."""
maxima = partial(layer_lines, variable="maximum", scale="log")
"""`layer_lines` of the largest entry (paper Fig. 4b)."""
norms = partial(layer_lines, variable="frobenius_norm", scale="log")
"""`layer_lines` of the Frobenius norm (the bars of paper Fig. 2, for every layer)."""


def _lowest(values: xr.DataArray) -> xr.DataArray:
    """The lowest value that is drawn."""
    return over_images.spread(values)[0].min() if "moment" in values.dims else values.min()


def draw_layers(axes: Axes, values: xr.DataArray) -> None:
    """Mean over images of each feature (image or moment, layer, feature) against the layer, in the band of their spread."""
    for feature in values.feature.values.tolist():
        line = values.sel(feature=feature).dropna("layer", how="all")
        look, label = FEATURE_STYLE[feature], FEATURE_LABEL[feature]
        axes.plot(line.layer, over_images.mean(line), label=label, markeredgecolor="white", **look)
        if over_images.count(line) > 1:
            low, high = over_images.spread(line)
            axes.fill_between(line.layer, low, high, color=look["color"], alpha=0.15, linewidth=0)
    layer_axis(axes, values.dropna("layer", how="all").layer.values.tolist())
