"""The ablation of the last block: kinds of attention × what is left of the block (paper Figs. 5 and 8)."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.legends import bar_legend, marker_legend, sweep_caption
from analysis.plots.panels import attention_axis, dataset_panels, label_rows, mark_published, model_panels, title
from analysis.plots.style import IDENTITY, VARIANT_STYLE
from analysis.sweeps import published
from analysis.sweeps.labels import mean_label
from analysis.sweeps.read import by_variant, for_mean
from analysis.sweeps.recipe_lists import VARIANTS
from clearclip.evaluation.protocol import of_dataset
from clearclip.methods.recipes import Recipe
from clearclip.segmentation.style import style


def ablation(dataset: xr.Dataset) -> Figure:
    """Fig. 5: mean mIoU over data sets of every attention and variant, a panel per model; open markers are published.

    Raises: `UserError` for a Dataset without a recipe of the ablation.
    """
    names, attentions, recipes = for_mean(dataset), by_variant(dataset), Recipe.from_coords(dataset)
    with style():
        figure, axes = model_panels(dataset)
        for panel, model in zip(axes, dataset.model.values.tolist(), strict=True):
            means = dataset.miou.sel(model=model, dataset=names).mean("dataset", skipna=False)
            for place, variants in enumerate(attentions.values()):
                for step, (variant, recipe) in enumerate(variants.items()):
                    x = place + (step - (len(VARIANTS) - 1) / 2) * 0.2
                    panel.bar(x, float(means.sel(recipe=recipe)), 0.18, color=VARIANT_STYLE[variant]["color"])
                    mark_published(panel, x, published.mean(model, names, recipes[recipe], of_dataset(dataset)))
            attention_axis(panel, list(attentions))
            panel.set_xlim(-0.6, len(attentions) - 0.4)
            title(panel, dataset, model)
        label_rows(axes, f"{mean_label(names)}\nmIoU (%)")
        bar_legend(figure, VARIANT_STYLE, _variants(attentions))
        sweep_caption(figure, dataset, names, IDENTITY)
    return figure


def ablation_by_dataset(dataset: xr.Dataset) -> Figure:
    """Fig. 8: every data set by itself, a row per model; a vertical line joins the variants of an attention.

    Raises: `UserError` for a Dataset without a recipe of the ablation.
    """
    attentions, recipes = by_variant(dataset), Recipe.from_coords(dataset)
    names = dataset.dataset.values.tolist()
    with style():
        figure, axes = dataset_panels(dataset)
        for row, model in zip(axes, dataset.model.values.tolist(), strict=True):
            for panel, name in zip(row, names, strict=True):
                miou = dataset.miou.sel(model=model, dataset=name)
                for place, variants in enumerate(attentions.values()):
                    values = [float(miou.sel(recipe=recipe)) for recipe in variants.values()]
                    panel.plot([place, place], [min(values), max(values)], color="#c4c4c4", linewidth=0.8, zorder=1)
                    for (variant, recipe), value in zip(variants.items(), values, strict=True):
                        edge = {"markeredgecolor": "white", "markeredgewidth": 0.3}
                        panel.plot(place, value, linestyle="none", **edge, **VARIANT_STYLE[variant])
                        number = published.value(model, name, recipes[recipe], of_dataset(dataset))
                        mark_published(panel, place + 0.3, number)
                panel.margins(y=0.09)
                attention_axis(panel, list(attentions))
                panel.set_xlim(-0.6, len(attentions) - 0.4)
        marker_legend(figure, VARIANT_STYLE, _variants(attentions))
        sweep_caption(figure, dataset, names, IDENTITY)
    return figure


def _variants(attentions: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The variants that occur, in the paper's order."""
    return [variant for variant in VARIANTS if any(variant in variants for variants in attentions.values())]
