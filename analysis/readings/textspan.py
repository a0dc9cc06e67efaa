"""What the texts of heads say: which head they describe best."""

from __future__ import annotations

import xarray as xr

from analysis.textspan.table import panels
from clearclip.words import listed


def reading(dataset: xr.Dataset) -> list[str]:
    """The head of every model that its texts explain best, among those that vary as much as an average head."""
    sentences = []
    for panel in panels(dataset):
        last = panel.variance_share.max("rank").where(panel.variance >= panel.variance.mean())
        if last.isnull().all():
            sentences.append(f"No head of {panel.model.item()} adds anything that differs from token to token.")
            continue
        best = last.isel(last.argmax(("layer", "head")))
        where = {"layer": best.layer, "head": best["head"]}
        texts = [repr(text) for text in panel.text.sel(where).values.tolist() if text]
        sentences.append(
            f"Of the heads of {panel.model.item()} that vary more than average, head {int(best['head'])} of layer "
            f"{int(best.layer)} is described best: {best.item():.0%} of its variance lies along {listed(texts)}."
        )
    return sentences
