"""Figs. 4a and 4b with what the paper reads off them."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from analysis import plots
from analysis.plots.style import FEATURE_STYLE
from analysis.sweeps.published import reference

READINGS = {
    "X_attn": "entropy X_attn CLIP-B/16 all layers",
    "X_res": "entropy X_res and X_sum CLIP-B/16 last layers",
}
EARLY = 3  # layers, from the first, that count as early
HEADROOM = 0.25  # of the axis, for the readings


def entropy(dataset: xr.Dataset) -> Figure:
    """Entropy against the layer, a column per model, a row per source of pictures; the paper's readings at the last layer."""
    figure = plots.entropy(dataset)
    models = dataset.model.values.tolist()
    marked = False
    for i, panel in enumerate(figure.axes):
        of_model = dataset.sel(model=models[i % len(models)])
        if family(str(of_model.architecture.item())) != "CLIP-B/16":
            continue
        last = int(of_model.entropy.dropna("layer", how="all").layer[-1])
        for feature, quantity in READINGS.items():
            value = float(reading(quantity).removeprefix("about "))
            look = {
                "markerfacecolor": "white",
                "markersize": 6,
                "markeredgewidth": 1.1,
                "zorder": 1.9,
                "clip_on": False,
            }
            panel.plot(last, value, "d", markeredgecolor=FEATURE_STYLE[feature]["color"], **look)  # type: ignore[arg-type]
            marked = True
    if marked:
        also(
            figure, f"open markers: the paper's CLIP-B/16; its DINO-B/16 is {reading('entropy all features DINO-B/16')}"
        )
    return figure


def maxima(dataset: xr.Dataset) -> Figure:
    """Maxima against the layer, a column per model, a row per source of pictures, with the paper's two readings."""
    figure = plots.maxima(dataset)
    models = dataset.model.values.tolist()
    for i, panel in enumerate(figure.axes):
        source = list(dict.fromkeys(dataset.source.values.tolist()))[i // len(models)]
        text = summary(dataset.sel(model=models[i % len(models)]).isel(image=dataset.source.values == source))
        if text:
            panel.text(0.03, 0.97, text, transform=panel.transAxes, va="top", fontsize=6.5, color="#444444")
    first = figure.axes[0]  # all panels share their scale
    low, high = first.get_ylim()
    logarithmic = first.get_yscale() == "log"
    first.set_ylim(low, high * (high / low) ** HEADROOM if logarithmic else high + HEADROOM * (high - low))
    return figure


def reading(quantity: str) -> str:
    """What the paper's text or figure says of a quantity, as clearclip/evaluation/reference/readings.csv has it.

    >>> reading("max X_res last layer over early layers CLIP-B/16")
    'about 90'
    """
    return str(reference("readings").set_index("quantity").value[quantity])


def family(architecture: str) -> str:
    """The paper's model that another is to be compared with in Fig. 4, or "" for another kind of model.

    >>> family("zoo:clip_tiny"), family("timm:vit_base_patch16_224.dino"), family("timm:vit_base_patch16_224.mae")
    ('CLIP-B/16', 'DINO-B/16', '')
    """
    name = architecture.lower()
    if "dino" in name:
        return "DINO-B/16"
    return "CLIP-B/16" if "clip" in name.replace("open_clip:", "") or name.startswith("open_clip:vit") else ""


def growth(dataset: xr.Dataset) -> float:
    """The maximum of X_res in the last layer over that of the early ones, of one model, in means over images."""
    means = dataset.maximum.sel(tokens="patches", feature="X_res").mean("image").dropna("layer")
    return float(means[-1] / means[:EARLY].mean())


def summary(dataset: xr.Dataset) -> str:
    """What the paper reads off for this kind of model, measured and published, or nothing."""
    paper = family(str(dataset.architecture.item()))
    if paper == "CLIP-B/16":
        times = reading("max X_res last layer over early layers CLIP-B/16")
        return f"$X_\\mathrm{{res}}$, last / early layers: {growth(dataset):.1f}×\n(paper, {paper}: {times}×)"
    if paper == "DINO-B/16":
        largest = float(dataset.maximum.sel(tokens="patches").mean("image").max())
        return f"largest: {largest:.1f}\n(paper, {paper}: {reading('max of any feature map DINO-B/16')})"
    return ""


def also(figure: Figure, line: str) -> None:
    """One more line of the small print below a figure."""
    figure.supxlabel(f"{figure.get_supxlabel()}\n{line}", fontsize=6.5, color="#555555")
