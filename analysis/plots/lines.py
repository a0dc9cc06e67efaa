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
        variable: the statistic, (model, image, layer, feature, tokens).
        scale: "linear", or "log", which stays linear if not every value is positive.
        limits: of the y axis.
    """
    models, sources = dataset.model.values.tolist(), list(dict.fromkeys(dataset.source.values.tolist()))
    if scale == "log" and not float(dataset[variable].sel(tokens=tokens).min()) > 0:
        scale = "linear"
    with style():
        figure, axes = free_panels(len(sources), len(models), sharex="col", sharey=True)
        for row, source in zip(axes, sources, strict=True):
            values = dataset[variable].sel(tokens=tokens).isel(image=dataset.source.values == source)
            for panel, model in zip(row, models, strict=True):
                draw_layers(panel, values.sel(model=model))
                if scale == "log":
                    log_axis(panel)
                panel.set_xlabel("")
                if limits is not None:
                    panel.set_ylim(*limits)
            where = f"{Path(source).name} ({values.sizes['image']})\n" if len(sources) > 1 else ""
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


def draw_layers(axes: Axes, values: xr.DataArray) -> None:
    """Mean over images of each feature (image, layer, feature) against the layer; the band holds 80 % of the images."""
    for feature in values.feature.values.tolist():
        line = values.sel(feature=feature).dropna("layer", how="all")
        look, label = FEATURE_STYLE[feature], FEATURE_LABEL[feature]
        axes.plot(line.layer, line.mean("image"), label=label, markeredgecolor="white", **look)
        if line.sizes["image"] > 1:
            low, high = line.quantile([0.1, 0.9], "image")
            axes.fill_between(line.layer, low, high, color=look["color"], alpha=0.15, linewidth=0)
    layer_axis(axes, values.dropna("layer", how="all").layer.values.tolist())
