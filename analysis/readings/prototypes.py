"""What nearest class prototypes say: which map of which layer knows best what is where."""

from __future__ import annotations

import xarray as xr

from analysis.prototypes.table import panels


def reading(dataset: xr.Dataset) -> list[str]:
    """The best map of every model and data set, beside X_sum of the last layer."""
    sentences = []
    for panel in panels(dataset):
        miou = panel.miou
        best = miou.isel(miou.argmax(("layer", "feature", "similarity")))
        last = miou.isel(layer=-1).sel(feature="X_sum", similarity=best.similarity.item())
        gain = best.item() - last.item()
        beside = "the same as" if gain < 0.05 else f"{gain:.1f} more than"
        sentences.append(
            f"{best.feature.item()} of layer {best.layer.item()} of {panel.model.item()} knows best what is where on "
            f"{panel.dataset.item()}: {best.item():.1f} mIoU ({best.similarity.item()}), {beside} X_sum of the last layer."
        )
    return sentences
