"""The figures of the study: what the methods reach, and what the residual stream looks like, over a training."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clearclip.segmentation.style import style

LOOK: Mapping[str, dict[str, Any]] = {
    "clip": {"color": "#000000", "label": "CLIP, as it is"},
    "maskclip": {"color": "#8C8C8C", "label": "MaskCLIP"},
    "sclip": {"color": "#56B4E9", "label": "SCLIP"},
    "clearclip": {"color": "#AA3377", "label": "ClearCLIP"},
    "X_res": {"color": "#D55E00", "label": "X_res"},
    "X_sum": {"color": "#009E73", "label": "X_sum", "linestyle": (0, (4, 1.5))},
    "X_attn": {"color": "#0072B2", "label": "X_attn (q-k)"},
}
DEPTHS = {4: "#56B4E9", 6: "#E69F00", 8: "#009E73", 12: "#7A0403"}
KINDS = {"single": "1 thing", "few": "1 to 3 large things", "many": "2 to 6 small things"}


def learning(curve: xr.Dataset, turns: Mapping[int, str]) -> Figure:
    """One training: mIoU of methods and of feature maps, and what X_res is like, against the step.

    Args: curve: answers along ``step``. turns: the steps at which the training was changed, and a short word for each.
    """
    with style():
        figure, (methods, maps, inside) = plt.subplots(3, 1, figsize=(6.4, 6.6), sharex=True)
        for axes, names, title in (
            (methods, ("clip", "maskclip", "sclip", "clearclip"), "Four methods"),
            (maps, ("X_res", "X_sum", "X_attn"), "The last block's feature maps"),
        ):
            for name in names:
                axes.plot(curve.step, curve.miou.sel(dataset="scenes", recipe=name), marker=".", **LOOK[name])
            axes.set_title(title, loc="left")
            axes.set(ylabel="mIoU (%)", ylim=(0, None))
            axes.legend(loc="upper left", ncols=2)
        last = curve.entropy.isel(layer=-1)
        inside.plot(curve.step, last, marker=".", color="#D55E00", label="entropy of X_res, last block")
        inside.plot(curve.step, curve.naming / 100, marker=".", color="#000000", label="single things named")
        inside.set_title("The residual stream, and what the model knows", loc="left")
        inside.set(ylabel="share", xlabel="step", ylim=(0, 1))
        inside.legend(loc="center right")
        for axes in (methods, maps, inside):
            for step in turns:
                axes.axvline(step, color="#555555", linewidth=0.8, linestyle=":")
        for step, word in turns.items():
            methods.annotate(
                word, (step, 1), xycoords=("data", "axes fraction"), xytext=(-2, 2), textcoords="offset points",
                fontsize=6.5, color="#555555",
            )  # fmt: skip
    return figure


def gaps(study: xr.Dataset, ground: float) -> Figure:
    """ClearCLIP's mIoU minus CLIP's over the short trainings: one panel per kind of pictures, one line per depth."""
    with style():
        kinds = [kind for kind in KINDS if kind in study.kind]
        figure, panels = plt.subplots(2, len(kinds), figsize=(6.8, 4.4), sharex=True, sharey="row", squeeze=False)
        for column, kind in enumerate(kinds):
            chosen = study.sel(kind=kind, ground=ground)
            for axes, dataset in zip(panels[:, column], ("scenes", "scenes_things"), strict=True):
                lines(axes, chosen.miou.sel(dataset=dataset))
                axes.axhline(0, color="#555555", linewidth=0.8)
            panels[0, column].set_title(KINDS[kind])
            panels[1, column].set_xlabel("step")
        panels[0, 0].set_ylabel("ClearCLIP − CLIP\nthings and stuff (mIoU)")
        panels[1, 0].set_ylabel("ClearCLIP − CLIP\nthings only (mIoU)")
        legend(figure)
    return figure


def legend(figure: Figure) -> None:
    """One legend below all panels, each line once."""
    entries = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }  # fmt: skip
    labels = sorted(entries, key=lambda label: int(label.split()[0]))
    figure.legend([entries[label] for label in labels], labels, loc="outside lower center", ncols=len(labels))


def lines(axes: Axes, miou: xr.DataArray) -> None:
    """The gap of each depth, with the runs of late reading broken."""
    gap = miou.sel(recipe="clearclip") - miou.sel(recipe="clip")  # (blocks, late, step)
    for late in gap.late.values:
        for blocks in gap.blocks.values:
            line = gap.sel(late=late, blocks=blocks)
            if line.notnull().any():
                reads = ", reads late" if late else ""
                axes.plot(
                    line.step, line, marker="s" if late else "o", markersize=3, color=DEPTHS.get(int(blocks), "#555555"),
                    linestyle=(0, (4, 1.5)) if late else "-", label=f"{blocks} blocks{reads}",
                )  # fmt: skip


def streams(study: xr.Dataset, ground: float) -> Figure:
    """Entropy of X_res per block at the end of the short trainings: one panel per kind of pictures."""
    with style():
        kinds = [kind for kind in KINDS if kind in study.kind]
        figure, panels = plt.subplots(1, len(kinds), figsize=(6.8, 2.6), sharey=True, squeeze=False)
        for axes, kind in zip(panels[0], kinds, strict=True):
            end = study.entropy.sel(kind=kind, ground=ground).isel(step=-1)
            for late in end.late.values:
                for blocks in end.blocks.values:
                    line = end.sel(late=late, blocks=blocks).dropna("layer")
                    if line.size:
                        axes.plot(
                            line.layer, line, marker="s" if late else "o", markersize=3, color=DEPTHS.get(int(blocks), "#555555"),
                            linestyle=(0, (4, 1.5)) if late else "-",
                            label=f"{blocks} blocks{', reads late' if late else ''}",
                        )  # fmt: skip
            axes.set(title=KINDS[kind], xlabel="block", ylim=(0, 1))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0, 0].set_ylabel("entropy of X_res")
        legend(figure)
    return figure
