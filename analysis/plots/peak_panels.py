"""Peaks: how large they are through the layers, who wrote one of them, and where in the pictures it stands."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis.attribution.peak_tables import asked, kind, ranked, shares
from analysis.plots.legends import bar_legend, shipped, small_print
from analysis.plots.panels import free_panels, layer_axis, log_axis, title
from analysis.plots.style import FEATURE_LABEL, FEATURE_STYLE, Look
from analysis.probes import store
from clearclip.segmentation.style import picture_panel, style

PICTURES = 4  # that are shown at most
NAMED = 3  # neurons
MARK = "#FF2D55"
LABEL = FEATURE_LABEL | {"X_out": r"$X_\mathrm{out}$"}
COLOR = {feature: look["color"] for feature, look in FEATURE_STYLE.items()} | {"X_out": "#222222"}
COMPONENT_STYLE: dict[str, Look] = {
    "embedding": {"color": "#8C8C8C"},
    "attention": {"color": FEATURE_STYLE["X_attn"]["color"]},
    "ffn": {"color": "#E69F00", "label": "FFN"},
    "bias": {"color": "#CC79A7", "label": "biases"},
    "intervention": {"color": "#000000"},
}
RANK_STYLE: dict[int, Look] = {
    1: {"marker": "o", "label": "largest"},
    2: {"marker": "s", "alpha": 0.6, "label": "second"},
    3: {"marker": "^", "alpha": 0.35, "label": "third"},
}


def peaks(dataset: xr.Dataset) -> Figure:
    """One row per model: the largest magnitudes of the asked map in every layer, who wrote its peak, and where that stands.

    Args:
        dataset: as `analysis.attribution.peaks.measure` gives it, of one or several models.

    Raises: `UserError` for a Dataset without peaks.
    """
    store.require_maps(dataset, "peak")
    models = dataset.model.values.tolist()
    widths = {"width_ratios": [1, 1.2, 0.85]}
    with style():
        figure, axes = free_panels(len(models), 3, width=2.5, height=2.15, gridspec_kw=widths)
        for (sizes, writers, pictures), model in zip(axes, models, strict=True):
            of_model = dataset.sel(model=model)
            title(sizes, dataset, model)
            _draw_sizes(sizes, of_model)
            _draw_writers(writers, of_model)
            _draw_pictures(pictures, of_model)
        axes[0, 0].legend(fontsize=6, handlelength=1.4, borderaxespad=0.2)
        shown = abs(dataset.written).max(("model", "image", "layer"))
        bar_legend(figure, COMPONENT_STYLE, [name for name in COMPONENT_STYLE if float(shown.sel(component=name))])
        images = dataset.sizes["image"]
        about = f"mean over {images} images · below 0 %: taken away · neurons: layer/number · below pictures: token, channel"
        small_print(figure, about, shipped(dataset))
    return figure


def _draw_sizes(axes: Axes, dataset: xr.Dataset) -> None:
    """The three largest magnitudes and the median of the asked map against the layer, logarithmic where all are positive."""
    feature = dataset.asked_feature.item()
    maps = dataset[["peak", "median"]].sel(feature=feature).dropna("layer", how="all")
    sizes, median = abs(maps.peak).mean("image"), maps["median"].mean("image")
    for rank in dataset["rank"].values.tolist():
        axes.plot(
            sizes.layer, sizes.sel(rank=rank), color=COLOR[feature], markeredgecolor="white", **RANK_STYLE.get(rank, {})
        )
    axes.plot(median.layer, median, color="#555555", linestyle=(0, (1, 1)), label="median")
    if float(min(sizes.min(), median.min())) > 0:
        log_axis(axes)
    layer_axis(axes, maps.layer.values.tolist())
    axes.set_ylabel(f"magnitude in {LABEL[feature]}\n(model units)")


def _draw_writers(axes: Axes, dataset: xr.Dataset) -> None:
    """Stacked bars of what each layer has written, up and down from 0, and the names of the strongest neurons below."""
    layer, feature = int(dataset.asked_layer), dataset.asked_feature.item()
    parts = shares(dataset, "written").sel(layer=slice(1, layer)).transpose("layer", "component")
    parts = parts.sel(layer=(parts != 0).any("component"))
    up, down = np.zeros(parts.sizes["layer"]), np.zeros(parts.sizes["layer"])
    for component in parts.component.values.tolist():
        heights = parts.sel(component=component).values
        axes.bar(parts.layer, heights, 0.75, np.where(heights > 0, up, down), color=COMPONENT_STYLE[component]["color"])
        up, down = up + heights.clip(0), down + heights.clip(max=0)
    axes.axhline(0, color="black", linewidth=0.7)
    axes.use_sticky_edges = False
    axes.margins(y=0.06)
    layer_axis(axes, parts.layer.values.tolist())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel(f"share of the peak of\n{LABEL[feature]} in layer {layer}")
    neurons = ranked(dataset, "written_by_neuron")[:NAMED]
    named = ", ".join(f"{each.layer}/{each.part} ({each.share:.0%})" for each in neurons).replace("-", "−")
    axes.set_title(f"neurons {named}", fontsize=6.5, fontweight="normal")


def _draw_pictures(axes: Axes, dataset: xr.Dataset) -> None:
    """The first pictures, two side by side, with a ring around the patch where the peak stands, if it stands on one."""
    places = asked(dataset).isel(image=slice(PICTURES))
    for i, image in enumerate(places.image.values.tolist()):
        place, photo = places.sel(image=image), dataset.photo.sel(image=image).values.astype("uint8")
        left, top = i % 2 * 1.08, i // 2 * 1.24  # every picture has side 1
        axes.imshow(photo, extent=(left, left + 1, top + 1, top))
        name = kind(float(place.peak_token), int(dataset.prefix_tokens))
        if name == "patch":
            x = left + (float(place.peak_column) + 0.5) / int(dataset["columns"])
            y = top + (float(place.peak_row) + 0.5) / int(dataset["rows"])
            axes.plot(x, y, "o", mfc="none", mec=MARK, mew=1.4, ms=7, clip_on=False)
        axes.text(left + 0.5, top + 1.02, f"{name}, {int(place.peak_channel)}", fontsize=6, ha="center", va="top")
    picture_panel(axes)
    axes.set(xlim=(0, 2.08), ylim=(2.24, 0))
