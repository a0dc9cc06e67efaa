"""From which layer on do patches speak the language of the text? mIoU of X_res, X_attn and X_sum of every layer.

    python -m analysis.layers --model clip_vitb16 --dataset voc20:data/voc

A "logit lens" for patches: each map goes through the final norm and the projection as if it were the last one (paper Fig. 3
for every layer).
"""

from typing import TYPE_CHECKING

from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from clearclip.methods.recipes import Recipe
    from clearclip.models.backbone import Backbone


def recipes(model: "Backbone") -> "list[Recipe]":
    """Three feature maps of each of the model's layers."""
    from clearclip.methods.recipes import feature_recipe
    from clearclip.models.block import FEATURES

    return [feature_recipe(feature, layer) for layer in range(1, model.depth + 1) for feature in FEATURES]


def by_layer(dataset: "xr.Dataset") -> "xr.DataArray":
    """The mIoU of this sweep as (model, dataset, layer, feature); NaN for layers that a model does not have."""
    import numpy as np
    import xarray as xr

    from analysis.plots import panels as sweep_plot
    from clearclip.methods.recipes import feature_recipe
    from clearclip.models.block import FEATURES

    found = {}
    for name in dataset.recipe.values.tolist():
        one, feature = sweep_plot.recipe_of(dataset, name), sweep_plot.feature_of(dataset, name)
        if one.layer and one == feature_recipe(feature, one.layer):
            found[one.layer, feature] = name
    sweep_plot.require(found, "a feature map of a layer", "layers")
    layers = sorted({layer for layer, _ in found})
    values = np.full((dataset.sizes["model"], dataset.sizes["dataset"], len(layers), len(FEATURES)), np.nan)
    for (layer, feature), name in found.items():
        chosen = dataset.miou.sel(recipe=name).transpose("model", "dataset")
        values[:, :, layers.index(layer), FEATURES.index(feature)] = chosen.values
    coords = {
        "model": dataset.model.values,
        "dataset": dataset.dataset.values,
        "layer": layers,
        "feature": list(FEATURES),
    }
    attrs = {"long_name": "mIoU", "units": "%"}
    return xr.DataArray(values, coords, dims=list(coords), attrs=attrs, name="miou")


def table(dataset: "xr.Dataset") -> "pd.DataFrame":
    """Rows are layers, columns model, dataset and feature; mIoU in %."""
    from clearclip.models.block import FEATURES

    wide = by_layer(dataset).to_series().unstack(["model", "dataset", "feature"])
    order = [(m, d, f) for m in dataset.model.values for d in dataset.dataset.values for f in FEATURES]
    return wide[order].dropna(axis=1, how="all")


def figure(dataset: "xr.Dataset") -> "Figure":
    """mIoU of X_res, X_attn, X_sum against the layer; a column a model, a row a dataset, published values as open markers."""
    from analysis.plots import panels as sweep_plot
    from analysis.plots.lines import FEATURE_LABEL, FEATURE_STYLE, layer_axis, title
    from analysis.sweeps import published
    from clearclip.methods.recipes import feature_recipe
    from clearclip.models.block import FEATURES
    from clearclip.segmentation.style import style

    values = by_layer(dataset)
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    with style():
        drawn, grid = sweep_plot.panel_grid(len(names), len(models), height=1.7, sharey="row")
        for row, name in zip(grid, names, strict=True):
            for panel, model in zip(row, models, strict=True):
                one = values.sel(model=model, dataset=name).dropna("layer", how="all")
                for feature in FEATURES:
                    look, text = FEATURE_STYLE[feature], FEATURE_LABEL[feature]
                    panel.plot(one.layer, one.sel(feature=feature), label=text, markeredgecolor="white", **look)
                    number = published.value(model, name, feature_recipe(feature))
                    sweep_plot.mark_published(panel, int(one.layer[-1]), number, look["color"], sweep_plot.RING)
                layer_axis(panel, one.layer.values.tolist())
                panel.set_xlabel("layer" if name == names[-1] else "")
                if name == names[0]:
                    title(panel, dataset, model)
            row[0].set_ylim(bottom=0)
            row[0].set_ylabel(f"{sweep_plot.mean_label([name])}\nmIoU (%)")
        sweep_plot.line_legend(drawn)
        sweep_plot.caption(drawn, dataset, names, "q-k attention; each map through the final norm and projection")
    return drawn


def main() -> None:
    """The command `python -m analysis.layers`."""
    chosen = options(SweepOptions, __doc__ or "")
    sweep_command(chosen, "layers", recipes, figure, table)


if __name__ == "__main__":
    run(main)
