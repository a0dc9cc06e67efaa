"""From which patches heads took what they add to one patch."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.attribution.maps import best_patch, cells_of
from analysis.plots.attribution_maps import photo_panel
from analysis.plots.legends import small_print
from analysis.plots.panels import free_panels
from analysis.plots.similarity_maps import QUERY
from clearclip.errors import UserError
from clearclip.segmentation.style import picture_panel, style

HEADS = 5  # that are shown


def sources(dataset: xr.Dataset) -> Figure:
    """One row per picture, model and direction: the photo, then the heads that add most to the patch in the circle, and from where.

    Args:
        dataset: as `analysis.attribute(…, from_tokens=True)` gives it.

    Raises: `UserError` for a Dataset without sources.
    """
    if "taken" not in dataset:
        raise UserError("this Dataset has no sources: write it with python -m analysis.attribution --sources.")
    cells = cells_of(dataset)
    with style():
        figure, axes = free_panels(len(cells), HEADS + 1, width=1.45, height=1.78)
        for row, cell in zip(axes, cells, strict=True):
            of_cell = dataset.sel(cell).dropna("row", how="all").dropna("column", how="all")
            place = best_patch(dataset, **cell)
            photo_panel(row[0], of_cell, place, cell)
            total = of_cell.taken.sum(("row", "column"), min_count=1) + of_cell.taken_before
            heads = total.to_series().dropna()
            strongest = heads.abs().sort_values(ascending=False).index[:HEADS]
            for panel in row[1:]:
                picture_panel(panel)
                panel.set_visible(False)
            for panel, name in zip(row[1:], strongest, strict=False):
                _draw(panel, of_cell.sel(component=name), name, float(heads[name]), place)
        small_print(
            figure,
            "what the head took from each patch for the patch in the circle: red adds to the score, blue takes from it",
            "below: all that the head adds, and how much of it came from the tokens before the patches (CLS, registers)",
        )
    return figure


def _draw(panel: Axes, dataset: xr.Dataset, name: str, total: float, place: tuple[int, int]) -> None:
    panel.set_visible(True)
    most = max(float(np.abs(dataset.taken).max()), 1e-12)
    panel.imshow(dataset.taken, cmap="RdBu_r", vmin=-most, vmax=most)
    panel.plot(place[1], place[0], "o", mfc="none", mec=QUERY, mew=1.2, ms=5)
    panel.set_title(name, fontsize=7)
    before = float(dataset.taken_before)
    panel.set_xlabel(f"adds {total:+.3f}, from CLS {before:+.3f}".replace("-", "−"), fontsize=6, labelpad=2)
