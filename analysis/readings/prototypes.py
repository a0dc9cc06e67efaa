"""What nearest class prototypes say: which map, or which heads, of which layer know best what is where."""

from __future__ import annotations

import xarray as xr

from analysis.prototypes.table import panels, place, title
from clearclip.words import listed

NEAR = 0.9  # of the best head's mIoU


def reading(dataset: xr.Dataset) -> list[str]:
    """The best map of every model and data set beside X_sum of the last layer, or the best heads beside all others."""
    return [(_heads if place(dataset) == "head" else _maps)(panel) for panel in panels(dataset)]


def _maps(panel: xr.Dataset) -> str:
    best = panel.miou.isel(panel.miou.argmax(("layer", "feature", "similarity")))
    last = panel.miou.isel(layer=-1).sel(feature="X_sum", similarity=best.similarity.item())
    gain = best.item() - last.item()
    beside = "the same as" if gain < 0.05 else f"{gain:.1f} more than"
    return f"{_knows(panel, best)}, {beside} X_sum of the last layer."


def _heads(panel: xr.Dataset) -> str:
    best = panel.miou.isel(panel.miou.argmax(("layer", "head", "similarity")))
    of_heads = panel.miou.sel(similarity=best.similarity.item())
    near = of_heads.where(of_heads >= NEAR * best).stack(site=("layer", "head")).dropna("site")
    layers = sorted(set(near.layer.values.tolist()))
    where = f"layer{'s' * (len(layers) > 1)} {listed([str(layer) for layer in layers])}"
    reach = "reaches" if near.size == 1 else "reach"
    return (
        f"{_knows(panel, best)}, against {of_heads.median().item():.1f} of the median head; {near.size} of {of_heads.size} heads "
        f"{reach} at least {NEAR:.0%} of the best, in {where}."
    )


def _knows(panel: xr.Dataset, best: xr.DataArray) -> str:
    start = title(best)
    return (
        f"{start[0].upper()}{start[1:]} of {panel.model.item()} knows best what is where on "
        f"{panel.dataset.item()}: {best.item():.1f} mIoU ({best.similarity.item()})"
    )
