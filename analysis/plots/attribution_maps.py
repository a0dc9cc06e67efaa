"""What draws a class: the score of every patch, and the maps and bars of what heads, FFNs and the rest add to it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.attribution.maps import best_patch, cells_of, strongest
from analysis.plots.legends import small_print
from analysis.plots.similarity_maps import QUERY
from analysis.probes import store
from clearclip.segmentation.style import WARNING_COLOR, picture_panel, style

KIND_COLOR = {"head": "#0072B2", "ffn": "#D55E00", "embedding": "#009E73"}  # others are gray
OTHER = "#8C8C8C"
BARS = 10


def attribution(dataset: xr.Dataset) -> Figure:
    """One row per picture, model and direction: photo, score, what all heads, all FFNs and the rest add, the strongest components.

    The bars are about the patch with the highest score: what a component adds there beside what it adds elsewhere on average.

    Args:
        dataset: as `analysis.attribute` gives it, of one or several models.

    Raises: `UserError` for a Dataset without attribution.
    """
    store.require_maps(dataset, "attribution")
    cells = cells_of(dataset)
    with style():
        size = (9.6, 1.75 * len(cells) + 0.55)
        figure, axes = plt.subplots(len(cells), 6, squeeze=False, figsize=size, width_ratios=[1, 1, 1, 1, 1, 2.1])
        for row, cell in zip(axes, cells, strict=True):
            of_cell = dataset.sel(cell)
            of_cell = of_cell.dropna("row", how="all").dropna("column", how="all")
            place = best_patch(dataset, **cell)
            photo_panel(row[0], of_cell, place, cell)
            kinds = {
                kind: of_cell.attribution[(of_cell.kind == kind).values].sum("component") for kind in ("head", "ffn")
            }
            rest = of_cell.score - kinds["head"] - kinds["ffn"]
            for panel, name, values in zip(
                row[1:5],
                ("score", "all heads", "all FFNs", "the rest"),
                (of_cell.score, *kinds.values(), rest),
                strict=True,
            ):
                _map(panel, values, name, place)
            _bars(row[5], dataset, cell)
        small_print(
            figure,
            "maps: each from its lowest to its highest value, the range below · score = heads + FFNs + the rest (embedding, "
            "biases, norm)",
            "bars: at the patch in the circle, beside the picture's mean · blue heads, orange FFNs, green the embedding",
        )
    return figure


def photo_panel(panel: Axes, dataset: xr.Dataset, place: tuple[int, int], cell: dict[str, str]) -> None:
    """What the model sees, with a circle around the patch that is spoken of."""
    photo = dataset.photo.values.astype("uint8")
    panel.imshow(photo)
    picture_panel(panel)
    rows, columns = dataset.score.shape
    panel.plot(
        (place[1] + 0.5) * photo.shape[1] / columns,
        (place[0] + 0.5) * photo.shape[0] / rows,
        "o", mfc="none", mec=QUERY, mew=1.4, ms=6,
    )  # fmt: skip
    random = bool(dataset.random_weights)
    name = f"{cell['model']}, {dataset.recipe.item()}{', random weights' if random else ''}"
    panel.set_title(name, fontsize=7, color=WARNING_COLOR if random else "black")
    panel.set_ylabel(cell["direction"], fontsize=8)


def _map(panel: Axes, values: xr.DataArray, name: str, place: tuple[int, int]) -> None:
    panel.imshow(values, cmap="viridis")
    picture_panel(panel)
    panel.plot(place[1], place[0], "o", mfc="none", mec=QUERY, mew=1.2, ms=5)
    panel.set_title(name, fontsize=7)
    low, high = (f"{float(value):.3f}".replace("-", "−") for value in (values.min(), values.max()))
    panel.set_xlabel(f"{low} … {high}", fontsize=6, labelpad=2)


def _bars(panel: Axes, dataset: xr.Dataset, cell: dict[str, str]) -> None:
    top = strongest(dataset.sel({dim: [name] for dim, name in cell.items()}), BARS).iloc[::-1]
    kinds = dict(zip(dataset.component.values.tolist(), dataset.kind.values.tolist(), strict=True))
    colors = [KIND_COLOR.get(kinds[name], OTHER) for name in top["component"]]
    panel.barh(np.arange(len(top)), top["adds"], color=colors, height=0.7)
    panel.set_yticks(np.arange(len(top)), top["component"], fontsize=6)
    panel.axvline(0, color="#333333", linewidth=0.6)
    panel.tick_params(axis="x", labelsize=6)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False)
    panel.set_title("what draws the patch in the circle", fontsize=7)
