"""Feature maps as token × channel surfaces, their peaks marked (paper Fig. 9)."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from mpl_toolkits.mplot3d.axes3d import Axes3D

from analysis.plots.legends import small_print
from analysis.plots.panels import free_panels
from analysis.plots.style import FEATURE_LABEL, FEATURE_STYLE
from analysis.probes import store
from clearclip.segmentation.style import WARNING_COLOR, style

PEAKS = 3  # channels marked in a surface
CELLS = 96  # of a surface along a side at most; each shows its most extreme value, so no peak is lost
PEAK_COLOR = "#CC0000"


def feature_maps(dataset: xr.Dataset, tokens: str = "patches") -> Figure:
    """Fig. 9: one row per picture, model and layer, a column per feature; the strongest channels are marked and named.

    Args:
        dataset: as `analysis.probes.feature_maps.feature_maps` gives it, of one or several models.
        tokens: "patches" or "all".

    Raises: `UserError` for a Dataset without feature maps.
    """
    store.require_maps(dataset, "feature_map")
    features = dataset.feature.values.tolist()
    rows = [
        (model, image, layer)
        for model in dataset.model.values.tolist()
        for image in dataset.image.values.tolist()
        for layer in dataset.layer.values.tolist()
        if dataset.feature_map.sel(model=model, image=image, layer=layer).notnull().any()
    ]
    solid = {"projection": "3d", "computed_zorder": False}
    with style():
        figure, axes = free_panels(len(rows), len(features), width=2.6, height=2.0, subplot_kw=solid)
        for line, (model, image, layer) in zip(axes, rows, strict=True):
            first = 0 if tokens == "all" else int(dataset.prefix_tokens.sel(model=model))
            for panel, feature in zip(line, features, strict=True):
                values = dataset.feature_map.sel(model=model, image=image, layer=layer, feature=feature)
                values = values.dropna("channel", how="all").dropna("token", how="all").isel(token=slice(first, None))
                draw_surface(panel, values.values, FEATURE_STYLE[feature]["color"], first)
                panel.set_title(f"{FEATURE_LABEL[feature]}, layer {layer}", y=0.94)
            random = " (random weights)" if bool(dataset.random_weights.sel(model=model)) else ""
            line[0].text2D(
                -0.12,
                0.5,
                f"{model}{random}\n{image}",
                transform=line[0].transAxes,
                rotation=90,
                ha="center",
                va="center",
                fontsize=7.5,
                color=WARNING_COLOR if random else "black",
            )
        kind = {"patches": "patch tokens", "all": "all tokens"}[tokens]
        small_print(
            figure,
            f"{kind}, counted from 0 with CLS and registers · values in model units, a drawn cell shows its most extreme one · "
            f"marked: the {PEAKS} channels with the largest absolute entry",
        )
    return figure


def draw_surface(axes: Axes3D, values: np.ndarray, color: str, first: int = 0) -> None:
    """One surface (tokens, channels), its tokens counted from `first`; large maps are pooled to their extreme values."""
    tokens, channels = values.shape
    at_token, at_channel, cells = pooled(values)
    x, y = np.meshgrid(at_channel, at_token + first)
    fast = {"rcount": CELLS, "ccount": CELLS, "linewidth": 0, "antialiased": False, "rasterized": True}
    axes.plot_surface(x, y, cells, cmap=_tint(color), **fast)
    size = np.abs(values)
    step = 0.07 * max(float(values.max() - values.min()), 1e-12)
    for channel in np.argsort(-size.max(0))[:PEAKS]:
        token = int(size[:, channel].argmax())
        _mark_peak(axes, channel, first + token, float(values[token, channel]), step)
    axes.set(xlabel="channel", ylabel="token", xlim=(0, channels), ylim=(first, first + tokens))
    axes.set_box_aspect((1.3, 1, 0.8), zoom=1.02)
    axes.view_init(elev=24, azim=-60)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_tick_params(labelsize=6, pad=-3)
        axis.labelpad = -8
        axis.pane.fill = False
    axes.locator_params(nbins=4)


def _mark_peak(axes: Axes3D, channel: int, token: int, value: float, step: float) -> None:
    """A small triangle at a peak, and the number of its channel beyond."""
    up = value > 0
    away = step if up else -step
    marker = {"color": PEAK_COLOR, "markeredgecolor": "white", "markersize": 5, "zorder": 10}
    axes.plot([channel], [token], [value + away / 2], "v" if up else "^", **marker)
    axes.text(
        channel,
        token,
        value + away,
        str(channel),
        color=PEAK_COLOR,
        fontsize=7,
        fontweight="bold",
        ha="center",
        va="bottom" if up else "top",
        zorder=11,
        path_effects=[withStroke(linewidth=1.8, foreground="white")],
    )


def pooled(values: np.ndarray, cells: int = CELLS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (tokens, channels) map as at most `cells` × `cells` cells, each with its most extreme value.

    Returns: the middle token of each row, the middle channel of each column, and the cells.
    """
    edges = [np.linspace(0, n, min(n, cells) + 1).astype(int) for n in values.shape]
    middles = [(edge[:-1] + edge[1:] - 1) / 2 for edge in edges]
    high, low = (
        extreme.reduceat(extreme.reduceat(values, edges[0][:-1], 0), edges[1][:-1], 1)
        for extreme in (np.maximum, np.minimum)
    )
    return middles[0], middles[1], np.where(high > -low, high, low)


def _tint(color: str) -> Colormap:
    return LinearSegmentedColormap.from_list("tint", ["#f4f4f4", color, "#111111"])
