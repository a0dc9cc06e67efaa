"""mIoU of X_res, X_attn and X_sum against the layer: read with the text, or with nearest prototypes."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.legends import line_legend, method_legend, sweep_caption
from analysis.plots.panels import layer_axis, mark_published, paper_panels, title
from analysis.plots.style import FEATURE_LABEL, FEATURE_STYLE, RING, Look
from analysis.sweeps import published
from analysis.sweeps.labels import mean_label
from analysis.sweeps.read import by_layer
from clearclip.evaluation.protocol import of_dataset
from clearclip.methods.recipes import feature_recipe
from clearclip.models.block import FEATURES
from clearclip.segmentation.style import style

# how the two similarities of prototypes differ: standardized ones have hollow markers
SIMILARITY_STYLE: dict[str, Look] = {
    "cosine": {"markeredgecolor": "white"},
    "standardised": {"markerfacecolor": "white", "linestyle": (0, (1, 1.2)), "linewidth": 1.1, "markersize": 3.5},
}


def layers(dataset: xr.Dataset) -> Figure:
    """mIoU of each layer's feature maps read with the text; a column per model, a row per data set; open markers are published.

    Raises: `UserError` for a Dataset without a feature map of a layer.
    """

    def draw(panel: Axes, values: xr.DataArray) -> None:
        for feature in FEATURES:
            look, label = FEATURE_STYLE[feature], FEATURE_LABEL[feature]
            panel.plot(values.layer, values.sel(feature=feature), label=label, markeredgecolor="white", **look)
            place = values.model.item(), values.dataset.item()
            number = published.value(*place, feature_recipe(feature), of_dataset(dataset))
            mark_published(panel, int(values.layer[-1]), number, markeredgecolor=look["color"], markersize=RING)

    with style():
        figure = _panels(dataset, by_layer(dataset), 1.7, draw)
        line_legend(figure)
        names = dataset.dataset.values.tolist()
        sweep_caption(figure, dataset, names, "q-k attention; each map through the final norm and projection")
    return figure


def prototypes(dataset: xr.Dataset) -> Figure:
    """mIoU of each layer's feature maps by nearest prototypes; a column per model, a row per data set.

    Args:
        dataset: as `python -m analysis.prototypes` writes it; hollow markers are of the standardized similarity.
    """

    def draw(panel: Axes, values: xr.DataArray) -> None:
        for similarity, look in SIMILARITY_STYLE.items():
            for feature in FEATURES:
                line = values.sel(feature=feature, similarity=similarity)
                panel.plot(line.layer, line, label=f"{feature} {similarity}", **FEATURE_STYLE[feature] | look)

    features = [(FEATURE_LABEL[feature], FEATURE_STYLE[feature]) for feature in FEATURES]
    gray = {"color": "#555555", "marker": "o"}
    similarities = [(name, gray | look) for name, look in SIMILARITY_STYLE.items()]
    entries = [*features, *similarities]
    if dataset.sizes["model"] == 1:  # too narrow for one row: features in the first, similarities in the second
        entries = [features[0], similarities[0], features[1], similarities[1], features[2]]
    with style():
        figure = _panels(dataset, dataset.miou, 1.9, draw)
        method_legend(figure, dict(entries))
        names = dataset.dataset.values.tolist()
        sweep_caption(figure, dataset, names, "nearest class prototype from the other half")
    return figure


def _panels(
    dataset: xr.Dataset, miou: xr.DataArray, height: float, draw: Callable[[Axes, xr.DataArray], None]
) -> Figure:
    """A column per model and a row per data set; `draw` gets each panel and its mIoU (layer, feature, …)."""
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    figure, axes = paper_panels(len(names), len(models), height, sharey="row")
    for row, name in zip(axes, names, strict=True):
        for panel, model in zip(row, models, strict=True):
            values = miou.sel(model=model, dataset=name).dropna("layer", how="all")
            draw(panel, values)
            layer_axis(panel, values.layer.values.tolist())
            panel.set_xlabel("layer" if name == names[-1] else "")
            if name == names[0]:
                title(panel, dataset, model)
        row[0].set_ylim(bottom=0)
        row[0].set_ylabel(f"{mean_label([name])}\nmIoU (%)")
    return figure
