"""Does mIoU follow the norm of the attention output? ‖X_res‖ and ‖X_attn‖ beside mIoU, per attention (paper Fig. 2)."""

from typing import TYPE_CHECKING

from analysis import ablation
from analysis.ablation import IDENTITY

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clearclip.methods.recipes import Recipe

MIOU_COLOR = "#222222"


def recipes() -> "list[Recipe]":
    """The five attentions, each in a last block that is else as it was.

    >>> [one.name for one in recipes()][:2]
    ['qk full', 'qq full']
    """
    return [one for one in ablation.recipes() if one.residual and one.ffn]


def figure_2(dataset: "xr.Dataset") -> "Figure":
    """Fig. 2: bars of both norms (left axis) and the mIoU line (right axis) per attention; a column a model, a row a dataset.

    The norms are those of one picture's or window's patch tokens in the last block, a mean over all of them. Raises
    `UserError` for a Dataset without norms.
    """
    from analysis.plots import panels as sweep_plot
    from analysis.plots.lines import title
    from clearclip.errors import UserError
    from clearclip.segmentation.style import style

    if not {"x_res_norm", "x_attn_norm"} <= set(dataset.data_vars):
        raise UserError("this Dataset has no norms; python -m analysis.norms --miou writes them.")
    found = {one.affinity: name for one in recipes() if (name := sweep_plot.find(dataset, one))}
    sweep_plot.require(found, "an attention in a block with residual and FFN", "norms --miou")
    shown = dataset.sel(recipe=list(found.values()))
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    with style():
        drawn, grid = sweep_plot.panel_grid(len(names), len(models), height=1.75)
        for row, name in zip(grid, names, strict=True):
            for panel, model in zip(row, models, strict=True):
                draw_norms(panel, shown.sel(model=model, dataset=name))
                draw_miou(right := panel.twinx(), shown, model, name)
                panel.set_xticks(range(len(found)), [sweep_plot.ATTENTION_LABEL[attention] for attention in found])
                panel.grid(axis="x", visible=False)
                if name == names[0]:
                    title(panel, dataset, model)
                if model == models[-1]:
                    right.set_ylabel("mIoU (%)")
            row[0].set_ylabel(f"{sweep_plot.mean_label([name])}\nnorm (model units)")
        sweep_plot.line_legend(drawn)
        sweep_plot.caption(drawn, dataset, names, f"Frobenius norms of the last block's patch tokens; {IDENTITY}")
    return drawn


def draw_norms(axes: "Axes", one: "xr.Dataset") -> None:
    """Two bars a recipe, in the colours of their feature maps."""
    from analysis.plots.lines import FEATURE_LABEL, FEATURE_STYLE

    for feature, variable, shift in (("X_res", "x_res_norm", -0.2), ("X_attn", "x_attn_norm", 0.2)):
        values = one[variable].broadcast_like(one.x_attn_norm).values
        places = [place + shift for place in range(len(values))]
        label = rf"$\Vert${FEATURE_LABEL[feature]}$\Vert$"
        axes.bar(places, values, 0.38, color=FEATURE_STYLE[feature]["color"], label=label)
    axes.margins(y=0.08)


def draw_miou(axes: "Axes", shown: "xr.Dataset", model: str, name: str) -> None:
    """The line of one model's mIoU on one dataset over the recipes, and published values as open markers."""
    from analysis.plots import panels as sweep_plot
    from analysis.sweeps import published

    miou = shown.miou.sel(model=model, dataset=name).values.tolist()
    numbers = [published.value(model, name, one) for one in sweep_plot.recipes_of(shown).values()]
    axes.plot(range(len(miou)), miou, color=MIOU_COLOR, marker="o", markeredgecolor="white", label="mIoU")
    for place, number in enumerate(numbers):
        sweep_plot.mark_published(axes, place, number, size=sweep_plot.RING)
    axes.set_ylim(0, 1.15 * max([one for one in (*miou, *numbers) if one is not None and one == one], default=1.0))
    axes.spines["right"].set_visible(True)
    axes.grid(False)
