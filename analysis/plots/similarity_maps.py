"""Similarity of one patch to all others, through the layers."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.legends import small_print
from analysis.plots.panels import free_panels
from analysis.plots.style import FEATURE_LABEL, FEATURE_STYLE
from analysis.probes import store
from clearclip.segmentation.style import WARNING_COLOR, picture_panel, style

COLUMNS = 6  # layers that are shown at most
QUERY = "#FF2D55"


def similarity(dataset: xr.Dataset) -> Figure:
    """One row per picture, model and feature: what the model sees, then the similarity map of each layer.

    Every map runs from its lowest to its highest cosine, so its colors say where, not how much; the range is written below it.

    Args:
        dataset: as `analysis.probes.similarity.similarity_maps` gives it, of one or several models.

    Raises: `UserError` for a Dataset without similarity maps.
    """
    store.require_maps(dataset, "similarity")
    features = dataset.feature.values.tolist()
    cells = [(model, image) for model in dataset.model.values.tolist() for image in dataset.image.values.tolist()]
    every = dataset.layer.values.tolist()
    layers = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, COLUMNS).round().astype(int))]
    with style():
        figure, axes = free_panels(len(cells) * len(features), len(layers) + 1, width=1.15, height=1.2)
        for i, (model, image) in enumerate(cells):
            block = axes[i * len(features) : (i + 1) * len(features)]
            of_model = dataset.sel(model=model, image=image)
            for line, feature in zip(block, features, strict=True):
                for panel, layer in zip(line[1:], layers, strict=True):
                    _draw_map(panel, of_model, layer, feature)
                line[1].set_ylabel(FEATURE_LABEL[feature], fontsize=9, color=FEATURE_STYLE[feature]["color"])
            _draw_photo(block[0, 0], of_model)
            random = bool(of_model.random_weights)
            block[0, 0].set_title(f"{model}{', random weights' if random else ''}", fontsize=7)
            if random:
                block[0, 0].title.set_color(WARNING_COLOR)
            for panel in block[1:, 0]:
                panel.set_axis_off()
        for panel, layer in zip(axes[0, 1:], layers, strict=True):
            panel.set_title(f"layer {layer}", fontsize=7.5)
        small_print(
            figure, "cosine of the patch in the circle with every patch · each map from its lowest to its highest"
        )
    return figure


def _draw_map(panel: Axes, dataset: xr.Dataset, layer: int, feature: str) -> None:
    """One map and its range, nothing where the model lacks the layer."""
    picture_panel(panel)
    values = dataset.similarity.sel(layer=layer, feature=feature).dropna("row", how="all").dropna("column", how="all")
    if not values.size:
        return
    panel.imshow(values, cmap="viridis")
    panel.plot([dataset.query_column], [dataset.query_row], "o", mfc="none", mec=QUERY, mew=1.2, ms=5)
    low, high = (f"{round(float(value), 2) + 0.0:.2f}".replace("-", "−") for value in (values.min(), values.max()))
    panel.set_xlabel(f"{low} … {high}", fontsize=6, labelpad=2)


def _draw_photo(panel: Axes, dataset: xr.Dataset) -> None:
    """What the model sees, with a circle around the patch that asks."""
    photo = dataset.photo.values.astype("uint8")
    panel.imshow(photo)
    picture_panel(panel)
    height, width = photo.shape[0] / int(dataset.rows), photo.shape[1] / int(dataset.columns)
    place = ((int(dataset.query_column) + 0.5) * width, (int(dataset.query_row) + 0.5) * height)
    panel.plot([place[0]], [place[1]], "o", mfc="none", mec=QUERY, mew=1.4, ms=6)
