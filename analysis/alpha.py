"""How does the last block's attention output have to be weighed against its residual? X_res + α·X_attn (paper Fig. 6).

    python -m analysis.alpha --model clip_vitb16 --dataset voc20:data/voc

Every attention (qk, qq, kk, vv, identity) with α from 0.1 to 100; the FFN is off.
"""

from typing import TYPE_CHECKING

from analysis.ablation import ATTENTIONS, IDENTITY
from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from clearclip.methods.recipes import Recipe

ALPHAS = (0.1, 0.5, 1.0, 2.0, 10.0, 100.0)


def recipes() -> "list[Recipe]":
    """Five attentions × six weights.

    >>> len(recipes()), recipes()[6].name
    (30, 'qq alpha=0.1')
    """
    from clearclip.methods.recipes import Recipe

    return [Recipe(f"{one} alpha={alpha:g}", one, ffn=False, alpha=alpha) for one in ATTENTIONS for alpha in ALPHAS]


def figure(dataset: "xr.Dataset") -> "Figure":
    """Fig. 6: mean mIoU over datasets against α, a line an attention, one panel a model, published values as open markers."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    from analysis.plots import panels as sweep_plot
    from analysis.plots.lines import title
    from analysis.sweeps import published
    from clearclip.segmentation.style import style

    datasets, shown = sweep_plot.for_mean(dataset), _shown(dataset)
    with style():
        drawn, axes = sweep_plot.model_panels(dataset)
        for panel, model in zip(axes, dataset.model.values.tolist(), strict=True):
            means = dataset.miou.sel(model=model, dataset=datasets).mean("dataset", skipna=False)
            for attention, alphas in shown.items():
                look = sweep_plot.ATTENTION_STYLE[attention]
                label = sweep_plot.ATTENTION_LABEL[attention]
                values = means.sel(recipe=list(alphas.values()))
                panel.plot(list(alphas), values, label=label, markeredgecolor="white", **look)
                for alpha, recipe in alphas.items():
                    number = published.mean(model, datasets, sweep_plot.recipe_of(dataset, recipe))
                    sweep_plot.mark_published(panel, alpha, number, look["color"], sweep_plot.RING)
            panel.set_xscale("log")
            panel.set_xticks(ticks := sorted({alpha for alphas in shown.values() for alpha in alphas}))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
            title(panel, dataset, model)
        sweep_plot.label_columns(axes, r"$\alpha$ in $X_\mathrm{res} + \alpha\,X_\mathrm{attn}$")
        sweep_plot.label_rows(axes, f"{sweep_plot.mean_label(datasets)}\nmIoU (%)")
        sweep_plot.line_legend(drawn)
        sweep_plot.caption(drawn, dataset, datasets, f"FFN off; {IDENTITY}")
    return drawn


def _shown(dataset: "xr.Dataset") -> dict[str, dict[float, str]]:
    """Attention → α → recipe, of what the Dataset has of this sweep."""
    from analysis.plots import panels as sweep_plot
    from clearclip.methods.recipes import Recipe

    found: dict[str, dict[float, str]] = {attention: {} for attention in ATTENTIONS}
    for name in dataset.recipe.values.tolist():
        one = sweep_plot.recipe_of(dataset, name)
        wanted = Recipe(one.name, one.affinity, ffn=False, alpha=one.alpha)
        if one == wanted and one.affinity in found and one.alpha > 0:
            found[one.affinity][one.alpha] = name
    found = {attention: dict(sorted(alphas.items())) for attention, alphas in found.items() if alphas}
    sweep_plot.require(found, "X_res + alpha X_attn without FFN", "alpha")
    return found


def main() -> None:
    """The command `python -m analysis.alpha`."""
    chosen = options(SweepOptions, __doc__ or "")
    sweep_command(chosen, "alpha", recipes(), figure)


if __name__ == "__main__":
    run(main)
