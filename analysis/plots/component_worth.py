"""What each head and FFN is worth for finding places: layers × heads, with a number in each cell."""

from __future__ import annotations

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.attribution.run import of_class, panels
from analysis.plots.legends import small_print
from analysis.plots.panels import free_panels
from clearclip.errors import UserError
from clearclip.segmentation.style import WARNING_COLOR, style

CELL = 0.36  # inches


def components(dataset: xr.Dataset, name: str = "") -> Figure:
    """Per model and data set: the AUC of each component's map, and what the mIoU gains or loses without it.

    Args:
        dataset: as `analysis.attribution.run.worth` gives it.
        name: of a class, for the AUC; empty for the mean over classes.

    Raises: `UserError` for another Dataset.
    """
    if "auc_without" not in dataset:
        raise UserError("this Dataset holds no worth of components: write it with python -m analysis.components.")
    each = panels(dataset)
    layers = max(int(panel.layer.max()) for panel in each)
    columns = max(int(panel["head"].max()) for panel in each) + 2
    width, height = max(columns * CELL + 1.0, 3.2), (layers + 1) * CELL + 0.9
    with style():
        figure, axes = free_panels(len(each), 2, width=width, height=height)
        for row, panel in zip(axes, each, strict=True):
            auc, change = of_class(panel, name), panel.miou_without - panel.miou_whole
            _heat(row[0], auc, center=0.5, digits=2, spread=max(0.3, float(np.abs(auc - 0.5).max())))
            _heat(row[1], change, center=0.0, digits=1, spread=max(float(np.abs(change).max()), 1e-6), flipped=True)
        for row, panel in zip(axes, each, strict=True):  # last, for seaborn draws, and reads names as formulas
            random = ", random weights" if bool(panel.random_weights) else ""
            which = "as it is" if panel.recipe.item() == "clip" else f"recipe {panel.recipe.item()}"
            about = f"{panel.model.item()}{random} on {panel.dataset.item()}, {which}"
            what = f"AUC, class {name}" if name else "AUC, mean over classes"
            without = f"mIoU without the component, beside {float(panel.miou_whole):.1f} %"
            for axis, text in zip(row, (what, without), strict=True):
                axis.set_title(f"{about}\n{text}", fontsize=7.5, color=WARNING_COLOR if random else "black")
        small_print(
            figure,
            "left: how well what it adds to a class's score tells where the class is, 0.5 is chance\n"
            "right: what mIoU over patches gains or loses without it · orange is noise, purple is of use",
        )
    return figure


def _heat(axes: Axes, values: xr.DataArray, center: float, digits: int, spread: float, flipped: bool = False) -> None:
    """One cell a component: heads 1 … H, the FFN, the biases; layers downwards, what is outside the blocks in a row below."""
    series = values.to_series()
    kinds, layers, heads = (values[name].values.tolist() for name in ("kind", "layer", "head"))
    H, L = max(heads), max(layers)
    table = np.full((L + 1, H + 2), np.nan)
    names = np.full(table.shape, "", dtype=object)
    outside = 0
    for value, kind, layer, head in zip(series, kinds, layers, heads, strict=True):
        if layer == 0:
            table[L, outside], cell = value, (L, outside)
            names[cell] = {"embedding": "embed.", "norm": "norm", "pool": "pool"}[kind] + "\n"
            outside += 1
            continue
        column = {"head": head - 1, "ffn": H, "bias": H + 1}.get(kind)
        if column is not None:
            table[layer - 1, column] = value
    signed = "+" if center == 0 else ""
    table = np.round(table, digits) + 0.0  # no −0.0
    text = [
        [
            f"{name}{value:{signed}.{digits}f}".replace("-", "−") if np.isfinite(value) else ""
            for name, value in zip(*line, strict=True)
        ]
        for line in zip(names, table, strict=True)
    ]
    sns.heatmap(
        table,
        ax=axes,
        cmap="PuOr_r" if flipped else "PuOr",
        vmin=center - spread,
        vmax=center + spread,
        annot=np.array(text),
        fmt="",
        annot_kws={"fontsize": 5.5},
        cbar=False,
        linewidths=0.5,
        linecolor="white",
        xticklabels=[*map(str, range(1, H + 1)), "FFN", "bias"],
        yticklabels=[*map(str, range(1, L + 1)), ""],
    )
    axes.grid(visible=False)
    axes.set_xlabel("head" if H else "", fontsize=7.5)
    axes.set_ylabel("layer", fontsize=7.5)
    axes.tick_params(labelsize=6.5, length=0)
