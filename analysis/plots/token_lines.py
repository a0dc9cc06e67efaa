"""Tokens that stand out: five statistics against the layer, and where in the picture the long tokens lie."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.legends import panel_legend, statistics_caption
from analysis.plots.lines import draw_layers
from analysis.plots.panels import free_panels, title
from analysis.plots.style import FEATURE_LABEL
from clearclip.errors import UserError
from clearclip.segmentation.style import picture_panel, style

LINES = {
    "norm_ratio": "largest norm\nover median",
    "outlier_share": "share of\noutlier tokens",
    "channel_dominance": "mass in the 5\ntop channels",
    "effective_rank": "effective\nrank",
    "mean_cosine": "mean cosine\nof tokens",
}


def tokens(dataset: xr.Dataset, tokens: str = "patches", map_layer: int | None = None) -> Figure:
    """Five statistics of the tokens against the layer, a column per model, above the mean norm of its tokens as a map.

    Args:
        dataset: with the statistics of `LINES` and `token_norm`.
        tokens: "patches" or "all"; the map is always of the patches.
        map_layer: the layer whose token norms are drawn; None for each model's last one.

    Raises: `UserError` if the Dataset lacks one of the statistics or the layer to map.
    """
    missing = [name for name in (*LINES, "token_norm") if name not in dataset]
    if missing:
        raise UserError(f"this Dataset has no {', '.join(missing)}: write it with python -m analysis.tokens.")
    models, layers = dataset.model.values.tolist(), dataset.layer.values.tolist()
    if map_layer is not None and map_layer not in layers:
        raise UserError(f"map layer {map_layer}: the Dataset has layers {layers[0]} … {layers[-1]}.")
    heights = {"height_ratios": [1] * len(LINES) + [1.5]}
    with style():
        figure, axes = free_panels(len(LINES) + 1, len(models), height=1.2, gridspec_kw=heights)
        for row, (name, label) in zip(axes, LINES.items(), strict=False):
            for panel, model in zip(row, models, strict=True):
                panel.sharey(row[0])
                draw_layers(panel, dataset[name].sel(model=model, tokens=tokens))
                panel.set_xlabel("")
            if name in ("outlier_share", "channel_dominance"):
                row[0].set_ylim(bottom=0)
            row[0].set_ylabel(label)
        for panel, below, model in zip(axes[-2], axes[-1], models, strict=True):
            panel.set_xlabel("layer")
            _draw_map(figure, below, dataset.sel(model=model), map_layer)
        for panel, model in zip(axes[0], models, strict=True):
            title(panel, dataset, model)
        panel_legend(figure, axes[0, 0])
        figure.align_ylabels(axes[:-1, 0])
        statistics_caption(figure, dataset, tokens)
    return figure


def _draw_map(figure: Figure, axes: Axes, dataset: xr.Dataset, map_layer: int | None) -> None:
    """Mean norm of X_sum's patch tokens where they lie in the picture."""
    rows, columns, prefix = int(dataset.rows), int(dataset.columns), int(dataset.prefix_tokens)
    feature = "X_sum" if "X_sum" in dataset.feature else str(dataset.feature.values[-1])
    values = dataset.token_norm.sel(feature=feature, tokens="patches").dropna("layer", how="all")
    layer = int(values.layer[-1]) if map_layer is None else map_layer
    norms = values.sel(layer=layer).values[prefix : prefix + rows * columns].reshape(rows, columns)
    image = axes.imshow(norms, cmap="cividis")
    axes.set_title(f"token norm, {FEATURE_LABEL[feature]}, layer {layer}", fontweight="normal")
    picture_panel(axes)
    figure.colorbar(image, ax=axes, shrink=0.9, panchor=False).outline.set_visible(False)
