"""Does mIoU follow the norm of the attention output? ‖X_res‖ and ‖X_attn‖ beside mIoU, per attention (paper Fig. 2)."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.legends import line_legend, sweep_caption
from analysis.plots.panels import attention_axis, mark_published, paper_panels, title
from analysis.plots.style import FEATURE_LABEL, FEATURE_STYLE, IDENTITY, RING
from analysis.sweeps import published, recipe_lists
from analysis.sweeps.labels import mean_label
from analysis.sweeps.read import find, require
from clearclip.errors import UserError
from clearclip.evaluation.protocol import of_dataset
from clearclip.methods.recipes import Recipe
from clearclip.segmentation.style import style

MIOU_COLOR = "#222222"


def norms_and_miou(dataset: xr.Dataset) -> Figure:
    """Fig. 2: bars of both norms (left axis) and the mIoU line (right axis) per attention; a column per model, a row per data set.

    The norms are those of one picture's or window's patch tokens in the last block, a mean over all of them.

    Raises: `UserError` for a Dataset without norms, or without a recipe of this sweep.
    """
    if not {"x_res_norm", "x_attn_norm"} <= set(dataset.data_vars):
        raise UserError("this Dataset has no norms; python -m analysis.norms --miou writes them.")
    recipes = {recipe.affinity: name for recipe in recipe_lists.norms() if (name := find(dataset, recipe))}
    require(recipes, "an attention in a block with residual and FFN", "norms --miou")
    values = dataset.sel(recipe=list(recipes.values()))
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    with style():
        figure, axes = paper_panels(len(names), len(models), height=1.75)
        for row, name in zip(axes, names, strict=True):
            for panel, model in zip(row, models, strict=True):
                draw_norms(panel, values.sel(model=model, dataset=name))
                draw_miou(right := panel.twinx(), values, model, name)
                attention_axis(panel, list(recipes))
                if name == names[0]:
                    title(panel, dataset, model)
                if model == models[-1]:
                    right.set_ylabel("mIoU (%)")
            row[0].set_ylabel(f"{mean_label([name])}\nnorm (model units)")
        line_legend(figure)
        sweep_caption(figure, dataset, names, f"Frobenius norms of the last block's patch tokens; {IDENTITY}")
    return figure


def draw_norms(axes: Axes, values: xr.Dataset) -> None:
    """Two bars per recipe, in the colors of their feature maps, of one model and data set."""
    for feature, variable, shift in (("X_res", "x_res_norm", -0.2), ("X_attn", "x_attn_norm", 0.2)):
        heights = values[variable].broadcast_like(values.x_attn_norm).values
        places = [place + shift for place in range(len(heights))]
        label = rf"$\Vert${FEATURE_LABEL[feature]}$\Vert$"
        axes.bar(places, heights, 0.38, color=FEATURE_STYLE[feature]["color"], label=label)
    axes.margins(y=0.08)


def draw_miou(axes: Axes, dataset: xr.Dataset, model: str, name: str) -> None:
    """The line of one model's mIoU on one data set over the recipes, and published values as open markers."""
    miou = dataset.miou.sel(model=model, dataset=name).values.tolist()
    recipes, protocol = Recipe.from_coords(dataset).values(), of_dataset(dataset)
    numbers = [published.value(model, name, recipe, protocol) for recipe in recipes]
    axes.plot(range(len(miou)), miou, color=MIOU_COLOR, marker="o", markeredgecolor="white", label="mIoU")
    for place, number in enumerate(numbers):
        mark_published(axes, place, number, markersize=RING)
    known = [value for value in (*miou, *numbers) if value is not None and value == value]
    axes.set_ylim(0, 1.15 * max(known, default=1.0))
    axes.spines["right"].set_visible(True)
    axes.grid(False)
