"""The paper's own arrangements of what the plots draw: Fig. 1 left, Fig. 2, Fig. 3 and Fig. 9."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import plots
from analysis.plots.label_pictures import heading, rows
from analysis.plots.legends import shipped
from analysis.plots.style import DOUBLE, FEATURE_LABEL, FEATURE_STYLE
from analysis.sweeps.labels import dataset_label
from analysis.sweeps.published import reference
from analysis.sweeps.read import by_layer
from clearclip.errors import UserError
from clearclip.segmentation.overlay import draw_row, explained, handles, titles
from clearclip.segmentation.style import WARNING_COLOR, style
from figures.readings import also

SHOWN = ("X_sum", "X_res", "X_attn")
PICTURES = 3


def richest_picture(dataset: xr.Dataset) -> Figure:
    """Fig. 1: photo, ground truth and four label maps of the picture in which most classes occur, one row per model."""
    return plots.label_maps(dataset, (*SHOWN, "clearclip"), [richest(dataset)], width=DOUBLE)


def richest(dataset: xr.Dataset) -> int:
    """Which picture has most classes, each at least 1 % of it; the first one where there are no true labels."""
    if "truth" not in dataset:
        return 0
    classes = dataset.sizes["class"]
    counts = []
    for image in range(dataset.sizes["image"]):
        pixels = np.bincount(dataset.truth.isel(image=image).values.ravel(), minlength=classes)[:classes]
        counts.append(int((pixels > 0.01 * pixels.sum()).sum()))
    return int(np.argmax(counts))


def norms_and_miou(dataset: xr.Dataset) -> Figure:
    """Fig. 2: one column per model; COCO-Stuff as in the paper where it was measured, else every dataset."""
    return plots.norms_and_miou(dataset.sel(dataset=["coco_stuff"]) if "coco_stuff" in dataset.dataset else dataset)


def mean_and_maps(layers: xr.Dataset, pictures: xr.Dataset) -> Figure:
    """Fig. 3: bars for the first model of both Datasets, on COCO-Stuff or else the first dataset, and three pictures' maps."""
    model = str(pictures.model.values[0])
    lines = rows(pictures, model, SHOWN, range(min(PICTURES, pictures.sizes["image"])))
    colors = explained(lines, pictures["class"].values.tolist())
    names = titles(lines[0])
    ratios = [row.picture.shape[0] / row.picture.shape[1] for row in lines]
    bar_width = 1.9
    cell = (DOUBLE - bar_width) / len(names)
    legend_rows = -(-len(colors.legend) // 5)
    with style():
        figure = plt.figure(figsize=(DOUBLE, max(cell * sum(ratios), 1.9) + 0.75 + 0.19 * legend_rows))
        spec = figure.add_gridspec(
            len(lines), len(names) + 1, width_ratios=[bar_width, *[cell] * len(names)], height_ratios=ratios
        )
        _bars(figure.add_subplot(spec[:, 0]), layers, model)
        for i, row in enumerate(lines):
            panels = [figure.add_subplot(spec[i, 1 + j]) for j in range(len(names))]
            draw_row(panels, row, colors)
            for panel, name in zip(panels, names, strict=True):
                panel.set_title(name if i == 0 else "")
        figure.legend(handles=handles(colors), loc="outside lower right", ncols=5)
        text, warn = heading(pictures, model)
        figure.suptitle(text, fontsize=8, color=WARNING_COLOR if warn else "#555555")
    return figure


def _bars(axes: Axes, layers: xr.Dataset, model: str) -> None:
    """One bar for each feature map in its own color, its value above it, the paper's beside it."""
    names = layers.dataset.values.tolist()
    if model not in layers.model.values:
        raise UserError(f"the label maps are of {model}, the mIoU of {', '.join(layers.model.values)}.")
    name = "coco_stuff" if "coco_stuff" in names else str(names[0])
    values = by_layer(layers).sel(model=model, dataset=name).dropna("layer", how="all").isel(layer=-1)
    printed = reference("fig3").set_index("feature").COCOStuff
    for x, feature in enumerate(SHOWN):
        value = float(values.sel(feature=feature))
        axes.bar(x, value, width=0.62, color=FEATURE_STYLE[feature]["color"])
        axes.annotate(f"{value:.1f}", (x, value), (0, 2), textcoords="offset points", ha="center", fontsize=7)
        look = {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 4.5}
        label = "paper: CLIP-B/16,\nCOCO-Stuff" if x == 0 else "_"
        axes.plot(x + 0.36, float(printed[feature]), "d", label=label, clip_on=False, zorder=5, **look)  # type: ignore[arg-type]
    axes.set_xticks(range(len(SHOWN)), [FEATURE_LABEL[feature] for feature in SHOWN])
    axes.set_ylabel(f"mIoU (%), {dataset_label(name)}, {int(layers.images.sel(model=model, dataset=name))} images")
    axes.set_ylim(0, 1.3 * max(float(values.max()), float(printed.max())))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left", fontsize=6.5, handletextpad=0.2, borderaxespad=0.1)


def feature_maps(dataset: xr.Dataset) -> Figure:
    """Fig. 9: one row per picture and model, one column per feature."""
    figure = plots.feature_maps(dataset)
    if line := shipped(dataset.isel(model=~dataset.random_weights.values.astype(bool))):
        also(figure, line)
    return figure
