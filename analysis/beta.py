"""Is it the few strong channels of the residual that hurt? The top β of them removed, or X_res normalised (paper Table 4).

    python -m analysis.beta --model clip_vitb16 --dataset voc20:data/voc

q-q attention, FFN off; β is the share of the channels of X_res that are set to 0, those of the highest mean.
"""

from typing import TYPE_CHECKING

from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from clearclip.methods.recipes import Recipe

BETAS = (0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 1.0)
NORMALISED = "X_res normalised"


def name_of(beta: float) -> str:
    """The name of one recipe of this sweep.

    >>> name_of(0.05)
    'beta=5%'
    """
    return f"beta={100 * beta:g}%"


def recipes() -> "list[Recipe]":
    """Seven shares, and X_res normalised.

    >>> [one.name for one in recipes()][-2:]
    ['beta=100%', 'X_res normalised']
    """
    from clearclip.methods.recipes import Recipe

    pruned = [Recipe(name_of(beta), "qq", ffn=False, beta=beta) for beta in BETAS]
    return [*pruned, Recipe(NORMALISED, "qq", ffn=False, normalize_residual=True)]


def label(recipe: "Recipe") -> str:
    """What stands for a recipe of this sweep on an axis or above a column: its β in %, or "norm."."""
    return "norm." if recipe.normalize_residual else f"{100 * recipe.beta:g}"


def shown(dataset: "xr.Dataset") -> list[str]:
    """The Dataset's recipes of this sweep, by rising β, the normalised residual last. Raises `UserError` if it has none."""
    from analysis.plots import panels as sweep_plot

    names = [sweep_plot.find(dataset, one) for one in recipes()]
    found = [name for name in names if name]
    sweep_plot.require(found, "q-q attention without FFN and a pruned X_res", "beta")
    return found


def figure(dataset: "xr.Dataset") -> "Figure":
    """Table 4 as a figure: mean mIoU over datasets against β, one panel a model, published values as open markers."""
    from analysis.plots import panels as sweep_plot
    from analysis.plots.lines import title
    from analysis.sweeps import published
    from clearclip.segmentation.style import style

    names, datasets = shown(dataset), sweep_plot.for_mean(dataset, published.BENCHMARKS)
    chosen = [sweep_plot.recipe_of(dataset, name) for name in names]
    pruned = sum(not one.normalize_residual for one in chosen)
    places = [place + 0.5 * one.normalize_residual for place, one in enumerate(chosen)]
    look = sweep_plot.ATTENTION_STYLE["qq"]
    with style():
        drawn, axes = sweep_plot.model_panels(dataset)
        for panel, model in zip(axes, dataset.model.values.tolist(), strict=True):
            means = dataset.miou.sel(model=model, recipe=names).mean("dataset", skipna=False).values
            panel.plot(places[:pruned], means[:pruned], label="measured", markeredgecolor="white", **look)
            panel.plot(places[pruned:], means[pruned:], markeredgecolor="white", **look)
            for place, one in zip(places, chosen, strict=True):
                sweep_plot.mark_published(panel, place, published.mean(model, datasets, one), size=sweep_plot.RING)
            panel.set_xticks(places, [label(one) for one in chosen])
            title(panel, dataset, model)
        sweep_plot.label_columns(axes, r"channels of $X_\mathrm{res}$ removed, $\beta$ (%)")
        sweep_plot.label_rows(axes, f"{sweep_plot.mean_label(datasets)}\nmIoU (%)")
        sweep_plot.line_legend(drawn)
        sweep_plot.caption(
            drawn, dataset, datasets, r"q-q, FFN off; norm.: every token of $X_\mathrm{res}$ at length 1"
        )
    return drawn


def main() -> None:
    """The command `python -m analysis.beta`."""
    chosen = options(SweepOptions, __doc__ or "")
    sweep_command(chosen, "beta", recipes(), figure)


if __name__ == "__main__":
    run(main)
