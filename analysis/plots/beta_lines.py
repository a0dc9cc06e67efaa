"""The strongest channels of X_res removed, or X_res normalized: Table 4 as a figure."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.legends import line_legend, sweep_caption
from analysis.plots.panels import label_columns, label_rows, mark_published, model_panels, title
from analysis.plots.style import ATTENTION_STYLE, RING
from analysis.sweeps import published
from analysis.sweeps.labels import mean_label
from analysis.sweeps.read import by_beta, for_mean
from clearclip.evaluation.protocol import of_dataset
from clearclip.methods.recipes import Recipe
from clearclip.segmentation.style import style


def beta(dataset: xr.Dataset) -> Figure:
    """Table 4 as a figure: mean mIoU over data sets against β, a panel per model; open markers are published.

    Raises: `UserError` for a Dataset without a recipe that prunes X_res.
    """
    names, shares, known = for_mean(dataset, published.BENCHMARKS), by_beta(dataset), Recipe.from_coords(dataset)
    recipes = [known[name] for name in shares.values()]
    pruned = sum(not recipe.normalize_residual for recipe in recipes)
    places = [place + 0.5 * recipe.normalize_residual for place, recipe in enumerate(recipes)]
    look = ATTENTION_STYLE["qq"]
    with style():
        figure, axes = model_panels(dataset)
        for panel, model in zip(axes, dataset.model.values.tolist(), strict=True):
            means = dataset.miou.sel(model=model, dataset=names).mean("dataset", skipna=False)
            means = means.sel(recipe=list(shares.values())).values
            panel.plot(places[:pruned], means[:pruned], label="measured", markeredgecolor="white", **look)
            panel.plot(places[pruned:], means[pruned:], markeredgecolor="white", **look)
            for place, recipe in zip(places, recipes, strict=True):
                number = published.mean(model, names, recipe, of_dataset(dataset))
                mark_published(panel, place, number, markersize=RING)
            panel.set_xticks(places, list(shares))
            title(panel, dataset, model)
        label_columns(axes, r"channels of $X_\mathrm{res}$ removed, $\beta$ (%)")
        label_rows(axes, f"{mean_label(names)}\nmIoU (%)")
        line_legend(figure)
        sweep_caption(figure, dataset, names, r"q-q, FFN off; norm.: every token of $X_\mathrm{res}$ at length 1")
    return figure
