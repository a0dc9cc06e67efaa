"""Principal components of patches as colors."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.legends import small_print
from analysis.plots.panels import free_panels
from analysis.plots.style import FEATURE_LABEL, FEATURE_STYLE
from analysis.probes import store
from clearclip.segmentation.style import WARNING_COLOR, picture_panel, style

COLUMNS = 6  # maps beside one another at most, so also layers that are shown
LOW, HIGH = 0.01, 0.99  # quantiles of a component's scores that become dark and bright

Column = tuple[str, int, str]  # model, layer, feature


def pca(dataset: xr.Dataset) -> Figure:
    """One row per picture, first what the model sees, then its maps; the first three components are red, green and blue.

    The columns are the feature maps of one layer, of all models; with several layers they are the layers, and each model
    and feature map has rows of its own. Each component runs from the 1st to the 99th percentile of its scores over all
    pictures, so in one column a color means the same in every picture. Background is black.

    Args:
        dataset: as `analysis.probes.pca.pca_maps` gives it, of one or several models.

    Raises: `UserError` for a Dataset without PCA maps.
    """
    store.require_maps(dataset, "pca")
    images = dataset.image.values.tolist()
    blocks = _blocks(dataset)
    with style():
        columns = max(map(len, blocks)) + 1
        figure, axes = free_panels(len(blocks) * len(images), columns, width=1.15, height=1.2)
        for i, sites in enumerate(blocks):
            block = axes[i * len(images) : (i + 1) * len(images)]
            for panel, photo in zip(block[:, 0], dataset.photo.sel(model=sites[0][0]), strict=True):
                panel.imshow(photo.astype("uint8"))
                picture_panel(panel)
            for panels, site in zip(block[:, 1:].T, sites, strict=False):
                _draw_maps(panels, dataset, *site)
            for panel in block[:, len(sites) + 1 :].flat:
                panel.set_axis_off()
        background = " · black: background" if dataset.attrs["pca_of"] == "foreground patches" else ""
        small_print(
            figure,
            "principal components 1, 2, 3 as red, green, blue" + background,
            "dark to bright: 1st to 99th percentile over the pictures",
            f"below: shares of the variance of the {dataset.attrs['pca_of']}",
        )
    return figure


def _blocks(dataset: xr.Dataset) -> list[list[Column]]:
    """Columns that stand beside one another, for each block of rows."""
    models, features, layers = (dataset[name].values.tolist() for name in ("model", "feature", "layer"))
    if len(layers) == 1:
        columns = [(model, layers[0], feature) for model in models for feature in features]
        return [columns[i : i + COLUMNS] for i in range(0, len(columns), COLUMNS)]
    shown = [layers[i] for i in np.unique(np.linspace(0, len(layers) - 1, COLUMNS).round().astype(int))]
    return [[(model, layer, feature) for layer in shown] for model in models for feature in features]


def _draw_maps(panels: np.ndarray, dataset: xr.Dataset, model: str, layer: int, feature: str) -> None:
    """One map of all pictures on one scale, nothing where the model lacks the layer."""
    for panel in panels:
        picture_panel(panel)
    of_model = dataset.sel(model=model, layer=layer, feature=feature)
    shares = of_model.explained_variance_ratio.values
    if np.isnan(shares).all():
        return
    scores = of_model.pca.isel(row=slice(int(of_model.rows)), column=slice(int(of_model.columns)))
    for panel, picture in zip(panels, colors(scores), strict=True):
        panel.imshow(picture)
    random = bool(of_model.random_weights)
    panels[0].set_title(
        f"{model}\n{FEATURE_LABEL[feature]}, layer {layer}" + ("\nrandom weights" if random else ""),
        fontsize=7,
        color=WARNING_COLOR if random else FEATURE_STYLE[feature]["color"],
    )
    panels[-1].set_xlabel(" + ".join(f"{share:.0%}" for share in shares[:3]), fontsize=6, labelpad=2)


def colors(scores: xr.DataArray) -> np.ndarray:
    """Scores (image, row, column, component) → RGB (image, row, column, 3) in 0 … 1, black where they are NaN.

    >>> scores = xr.DataArray([[[[0.0], [1.0], [np.nan]]]], dims=("image", "row", "column", "component"))
    >>> colors(scores)[0, 0].tolist()
    [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    values = scores.transpose("image", "row", "column", "component").values[..., :3]
    low, high = np.nanquantile(values, (LOW, HIGH), axis=(0, 1, 2))
    scaled = np.clip((values - low) / np.where(high > low, high - low, 1), 0, 1)
    if scaled.shape[-1] == 1:
        scaled = scaled.repeat(3, -1)  # one component alone is gray
    blue = np.zeros((*scaled.shape[:-1], 3 - scaled.shape[-1]))
    return np.nan_to_num(np.concatenate([scaled, blue], -1))
