"""Attention of the asking token over the patches, beside the picture."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.legends import small_print
from analysis.plots.panels import free_panels
from analysis.probes import store
from clearclip.segmentation.style import WARNING_COLOR, picture_panel, style


def attention(dataset: xr.Dataset) -> Figure:
    """One row per picture: what the model sees, then a map for each model, layer and product, the mean over heads.

    Each map is scaled to its own 99.5th percentile, so that one bright patch does not hide the rest.

    Args:
        dataset: as `analysis.probes.attention.token_attention` gives it, of one or several models.

    Raises: `UserError` for a Dataset without attention maps.
    """
    store.require_maps(dataset, "attention")
    columns = [
        (model, layer, name)
        for model in dataset.model.values.tolist()
        for layer in dataset.layer.values.tolist()
        for name in dataset.affinity.values.tolist()
        if dataset.attention.sel(model=model, layer=layer, affinity=name).notnull().any()
    ]
    with style():
        figure, axes = free_panels(dataset.sizes["image"], len(columns) + 1, width=1.35, height=1.4)
        for row, image in zip(axes, dataset.image.values.tolist(), strict=True):
            row[0].imshow(dataset.photo.sel(image=image).isel(model=0).astype("uint8"))
            for panel, (model, layer, name) in zip(row[1:], columns, strict=True):
                values = dataset.attention.sel(model=model, image=image, layer=layer, affinity=name).mean("head")
                values = values.dropna("row", how="all").dropna("column", how="all")
                panel.imshow(values, cmap="magma", vmin=0, vmax=float(values.quantile(0.995)))
                query = dataset.sel(model=model)
                if int(query.query_row) >= 0:
                    panel.plot([query.query_column], [query.query_row], "o", mfc="none", mec="#56B4E9", mew=1.4, ms=6)
            for panel in row:
                picture_panel(panel)
            row[0].set_ylabel(_shortened(image), fontsize=7)
        for panel, (model, layer, name) in zip(axes[0, 1:], columns, strict=True):
            random = bool(dataset.random_weights.sel(model=model))
            panel.set_title(
                f"{model}\n{name[0]}-{name[1]}, layer {layer}" + ("\nrandom weights" if random else ""),
                color=WARNING_COLOR if random else "black",
                fontsize=7.5,
            )
        counts = dataset.attention.notnull().any(("image", "layer", "affinity", "row", "column")).sum("head").values
        numbers = sorted(set(counts.tolist()))
        heads = f"mean over {' and '.join(map(str, numbers))} heads" if numbers != [1] else "one head"
        queries = ", ".join(sorted(set(dataset["query"].values.tolist())))
        scaled = "black is 0, white each map's own 99.5th percentile"
        small_print(figure, f"attention of: {queries} · {heads} · {scaled}")
    return figure


def _shortened(name: str, length: int = 18) -> str:
    return name if len(name) <= length else "…" + name[-length + 1 :]
