"""Sorted channel means of every layer: is a feature map carried by a few channels? (Paper Fig. 4c)"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots.legends import statistics_caption
from analysis.plots.panels import free_panels
from analysis.plots.style import FEATURE_LABEL
from clearclip.segmentation.style import WARNING_COLOR, style


def channels(dataset: xr.Dataset, tokens: str = "patches") -> Figure:
    """Fig. 4c: sorted channel means against the channel's rank; a row per model, a column per feature, a color per layer.

    Args:
        dataset: with `channel_mean_sorted` (model, layer, feature, tokens, channel).
        tokens: "patches" or "all".
    """
    models, features = dataset.model.values.tolist(), dataset.feature.values.tolist()
    layers = dataset.layer.values.tolist()
    colors = LinearSegmentedColormap.from_list("layers", colormaps["viridis_r"](np.linspace(0.08, 1, 256)))
    scale = Normalize(min(layers), max(max(layers), min(layers) + 1))
    values = dataset.channel_mean_sorted.sel(tokens=tokens)
    with style():
        figure, axes = free_panels(len(models), len(features), height=1.75, sharex=True, sharey="row")
        for row, model in zip(axes, models, strict=True):
            for panel, feature in zip(row, features, strict=True):
                for layer in layers:
                    curve = values.sel(model=model, feature=feature, layer=layer).dropna("channel").values
                    rank = np.linspace(0, 100, len(curve))
                    panel.plot(rank, curve, color=colors(scale(layer)), linewidth=1.1, label=f"layer {layer}")
                panel.set_xlim(0, 100)
            random = bool(dataset.random_weights.sel(model=model))
            name = f"{model}, random weights" if random else model
            row[0].set_ylabel(f"{name}\n{_normalization(values)}", color=WARNING_COLOR if random else "black")
        for panel, feature in zip(axes[0], features, strict=True):
            panel.set_title(FEATURE_LABEL[feature])
        for panel in axes[-1]:
            panel.set_xlabel("channel rank (%)")
        bar = figure.colorbar(ScalarMappable(scale, colors), ax=axes, label="layer", aspect=30, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        statistics_caption(figure, dataset, tokens, band=False)
    return figure


def _normalization(values: xr.DataArray) -> str:
    """How the means were normalized, short enough for an axis."""
    name = values.attrs["long_name"]
    if "min–max" in name:
        return "min–max norm. mean"
    return "mean / largest" if "largest" in name else "mean (model units)"
