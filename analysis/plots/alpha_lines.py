"""X_res + α·X_attn: how the attention output has to be weighed (paper Fig. 6)."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from analysis.plots.legends import line_legend, sweep_caption
from analysis.plots.panels import label_columns, label_rows, mark_published, model_panels, title
from analysis.plots.style import ATTENTION_LABEL, ATTENTION_STYLE, IDENTITY, RING
from analysis.sweeps import published
from analysis.sweeps.labels import mean_label
from analysis.sweeps.read import by_alpha, for_mean
from clearclip.evaluation.protocol import of_dataset
from clearclip.methods.recipes import Recipe
from clearclip.segmentation.style import style


def alpha(dataset: xr.Dataset) -> Figure:
    """Fig. 6: mean mIoU over data sets against α, a line per attention, a panel per model; open markers are published.

    Raises: `UserError` for a Dataset without a recipe X_res + α·X_attn.
    """
    names, attentions, recipes = for_mean(dataset), by_alpha(dataset), Recipe.from_coords(dataset)
    ticks = sorted({alpha for alphas in attentions.values() for alpha in alphas})
    with style():
        figure, axes = model_panels(dataset)
        for panel, model in zip(axes, dataset.model.values.tolist(), strict=True):
            means = dataset.miou.sel(model=model, dataset=names).mean("dataset", skipna=False)
            for attention, alphas in attentions.items():
                look, label = ATTENTION_STYLE[attention], ATTENTION_LABEL[attention]
                values = means.sel(recipe=list(alphas.values()))
                panel.plot(list(alphas), values, label=label, markeredgecolor="white", **look)
                for alpha, recipe in alphas.items():
                    number = published.mean(model, names, recipes[recipe], of_dataset(dataset))
                    mark_published(panel, alpha, number, markeredgecolor=look["color"], markersize=RING)
            panel.set_xscale("log")
            panel.set_xticks(ticks)
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
            title(panel, dataset, model)
        label_columns(axes, r"$\alpha$ in $X_\mathrm{res} + \alpha\,X_\mathrm{attn}$")
        label_rows(axes, f"{mean_label(names)}\nmIoU (%)")
        line_legend(figure)
        sweep_caption(figure, dataset, names, f"FFN off; {IDENTITY}")
    return figure
