"""What do residual connection, FFN and kind of attention do in the last block? (Paper Table 1, Figs. 5 and 8)

    python -m analysis.ablation --model clip_vitb16 --dataset voc20:data/voc

Every attention (qk, qq, kk, vv, identity) with the block as it is, without residual (-RC), without FFN (-FFN), without both.
"""

from typing import TYPE_CHECKING

from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clearclip.methods.recipes import Recipe

ATTENTIONS = ("qk", "qq", "kk", "vv", "identity")
VARIANTS = {"full": (True, True), "-FFN": (True, False), "-RC": (False, True), "-RC-FFN": (False, False)}

IDENTITY = "$I$: identity"


def name_of(attention: str, residual: bool, ffn: bool) -> str:
    """The name of one recipe of this sweep.

    >>> name_of("qq", residual=False, ffn=True)
    'qq -RC'
    """
    return f"{attention} {next(name for name, flags in VARIANTS.items() if flags == (residual, ffn))}"


def recipes() -> "list[Recipe]":
    """Five attentions × four variants of the last block.

    >>> len(recipes()), recipes()[7].name
    (20, 'qq -RC-FFN')
    """
    from clearclip.methods.recipes import Recipe

    return [
        Recipe(name_of(attention, *flags), attention, residual=flags[0], ffn=flags[1])
        for attention in ATTENTIONS
        for flags in VARIANTS.values()
    ]


def figure(dataset: "xr.Dataset") -> "Figure":
    """Fig. 5: mean mIoU over datasets for every attention and variant, one panel a model, published values as open markers."""
    from analysis.plots import panels as sweep_plot
    from analysis.plots.lines import title
    from analysis.sweeps import published
    from clearclip.segmentation.style import style

    datasets = sweep_plot.for_mean(dataset)
    shown = _shown(dataset)
    with style():
        drawn, axes = sweep_plot.model_panels(dataset)
        for panel, model in zip(axes, dataset.model.values.tolist(), strict=True):
            means = dataset.miou.sel(model=model, dataset=datasets).mean("dataset", skipna=False)
            for place, variants in enumerate(shown.values()):
                for step, (variant, recipe) in enumerate(variants.items()):
                    x = place + (step - (len(VARIANTS) - 1) / 2) * 0.2
                    look = sweep_plot.VARIANT_STYLE[variant]
                    panel.bar(x, float(means.sel(recipe=recipe)), 0.18, color=look["color"])
                    number = published.mean(model, datasets, sweep_plot.recipe_of(dataset, recipe))
                    sweep_plot.mark_published(panel, x, number)
            _attention_axis(panel, list(shown))
            title(panel, dataset, model)
        sweep_plot.label_rows(axes, f"{sweep_plot.mean_label(datasets)}\nmIoU (%)")
        sweep_plot.bar_legend(drawn, sweep_plot.VARIANT_STYLE, _used(shown))
        sweep_plot.caption(drawn, dataset, datasets, IDENTITY)
    return drawn


def figure_8(dataset: "xr.Dataset") -> "Figure":
    """Fig. 8: every dataset by itself, a row a model, a column a dataset; a vertical line joins an attention's variants."""
    from analysis.plots import panels as sweep_plot
    from analysis.sweeps import published
    from clearclip.segmentation.style import style

    shown, names = _shown(dataset), dataset.dataset.values.tolist()
    with style():
        drawn, grid = sweep_plot.dataset_grid(dataset)
        for row, model in zip(grid, dataset.model.values.tolist(), strict=True):
            for panel, name in zip(row, names, strict=True):
                one = dataset.miou.sel(model=model, dataset=name)
                for place, variants in enumerate(shown.values()):
                    values = [float(one.sel(recipe=recipe)) for recipe in variants.values()]
                    panel.plot([place, place], [min(values), max(values)], color="#c4c4c4", linewidth=0.8, zorder=1)
                    for (variant, recipe), miou in zip(variants.items(), values, strict=True):
                        look = sweep_plot.VARIANT_STYLE[variant]
                        panel.plot(place, miou, linestyle="none", markeredgecolor="white", markeredgewidth=0.3, **look)
                        number = published.value(model, name, sweep_plot.recipe_of(dataset, recipe))
                        sweep_plot.mark_published(panel, place + 0.3, number)
                panel.margins(y=0.09)
                _attention_axis(panel, list(shown))
        sweep_plot.marker_legend(drawn, sweep_plot.VARIANT_STYLE, _used(shown))
        sweep_plot.caption(drawn, dataset, names, IDENTITY)
    return drawn


def _shown(dataset: "xr.Dataset") -> dict[str, dict[str, str]]:
    """Attention → variant → recipe, of what the Dataset has of this sweep; attentions and variants in the paper's order."""
    from analysis.plots import panels as sweep_plot
    from clearclip.methods.recipes import Recipe

    found = {
        attention: {
            variant: name
            for variant, flags in VARIANTS.items()
            if (name := sweep_plot.find(dataset, Recipe("", attention, residual=flags[0], ffn=flags[1])))
        }
        for attention in ATTENTIONS
    }
    found = {attention: variants for attention, variants in found.items() if variants}
    sweep_plot.require(found, "an attention with residual and FFN on or off", "ablation")
    return found


def _used(shown: dict[str, dict[str, str]]) -> list[str]:
    return [variant for variant in VARIANTS if any(variant in variants for variants in shown.values())]


def _attention_axis(axes: "Axes", attentions: list[str]) -> None:
    from analysis.plots import panels as sweep_plot

    axes.set_xticks(range(len(attentions)), [sweep_plot.ATTENTION_LABEL[one] for one in attentions])
    axes.set_xlim(-0.6, len(attentions) - 0.4)
    axes.grid(axis="x", visible=False)


def main() -> None:
    """The command `python -m analysis.ablation`."""
    chosen = options(SweepOptions, __doc__ or "")
    sweep_command(chosen, "ablation", recipes(), figure)


if __name__ == "__main__":
    run(main)
