"""All methods beside each other (paper Tables 2, 3 and 5 as a figure)."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.legends import bar_legend, sweep_caption
from analysis.plots.panels import dataset_panels, mark_published
from analysis.plots.style import VARIANT_STYLE
from analysis.sweeps import published
from analysis.sweeps.recipe_lists import variant
from clearclip.evaluation.protocol import of_dataset
from clearclip.methods.recipes import Recipe
from clearclip.methods.titles import method_label
from clearclip.segmentation.style import style


def compare(dataset: xr.Dataset) -> Figure:
    """mIoU of every method; a row per model, a column per data set, colored by what is left of the last block.

    Open markers are published values of the same protocol.
    """
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    recipes = Recipe.from_coords(dataset)
    variants = [variant(recipe.residual, recipe.ffn) for recipe in recipes.values()]
    colors = [VARIANT_STYLE[name]["color"] for name in variants]
    places = range(len(recipes))
    with style():
        figure, axes = dataset_panels(dataset, 0.25 + 0.13 * len(recipes), sharex=False, sharey=True)
        for row, model in zip(axes, models, strict=True):
            for panel, name in zip(row, names, strict=True):
                panel.barh(places, dataset.miou.sel(model=model, dataset=name).values, 0.75, color=colors)
                for place, recipe in zip(places, recipes.values(), strict=True):
                    number = published.value(model, name, recipe, of_dataset(dataset))
                    if number is not None:
                        mark_published(panel, number, place)
                panel.set_yticks(places, [method_label(recipe) for recipe in recipes])
                panel.tick_params(axis="x", labelrotation=0)
                panel.set_ylim(len(recipes) - 0.4, -0.6)
                panel.grid(axis="y", visible=False)
                if model == models[-1]:
                    panel.set_xlabel("mIoU (%)")
            row[0].set_ylabel(row[0].get_ylabel().replace("\nmIoU (%)", ""))
        bar_legend(figure, VARIANT_STYLE, [name for name in VARIANT_STYLE if name in variants])
        sweep_caption(figure, dataset, names)
    return figure
