"""The curves of paper Fig. 4 for one picture, as a drawing inside a page, with a mark that moves to the chosen layer."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from analysis.explorer import views
from analysis.explorer.passes import Pass
from analysis.plots.lines import draw_layers
from analysis.plots.panels import log_axis
from clearclip.segmentation.style import style

INK, FAINT = "#010203", "#040506"  # stand for the page's own colors of text and of lines
MARGINS = {"left": 0.11, "right": 0.985, "bottom": 0.15, "top": 0.93, "hspace": 0.32}
TITLES = {"entropy": "entropy: how evenly values spread", "maximum": "maximum: the largest value"}


def drawing(seen: Pass, layer: int) -> str:
    """Entropy and maximum of X_res, X_attn and X_sum against the layer, as HTML; drawn once, marked anew."""
    svg, axes = seen.once("drawing", lambda: _drawn(seen))
    marks = "".join(
        f'<i class="mark" data-span="{low} {high}" style="left:{low + (high - low) * _place(layer, seen.model.depth):.2f}%;'
        f'top:{top}%;height:{height}%"></i>'
        for low, high, top, height in axes
    )
    values = views.curves(seen).isel(image=0).sel(layer=layer)
    said = "; ".join(
        f"{name} in layer {layer}: "
        + ", ".join(f"{f} {float(values[name].sel(feature=f)):.3g}" for f in values.feature.values)
        for name in views.CURVES
    )
    return f'<div class="curves" role="img" aria-label="{said}">{svg}{marks}</div>'


def _place(layer: int, depth: int) -> float:
    """Where a layer lies along the axis, which leaves 0.4 on both sides."""
    return (layer - 0.6) / (depth - 0.2)


def _drawn(seen: Pass) -> tuple[str, list[tuple[float, float, float, float]]]:
    """The drawing as SVG in the page's own colors, and left, right, top and height of its panels in %."""
    colors: dict[Any, str] = {
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.edgecolor": FAINT,
    }
    ticks: dict[Any, str] = {
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": FAINT,
    }
    plain: dict[Any, str] = {
        "svg.fonttype": "none",
        "svg.hashsalt": seen.model.name,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    }
    values = views.curves(seen)
    with style(), plt.rc_context({**colors, **ticks, **plain, "grid.alpha": 0.35}):
        figure = Figure(figsize=(3.6, 2.7))
        figure.set_layout_engine("none")  # working out a layout takes longer than all the rest
        panels = figure.subplots(len(views.CURVES), sharex=True, gridspec_kw=MARGINS)
        for panel, name in zip(panels, views.CURVES, strict=True):
            draw_layers(panel, values[name])
            panel.set_title(TITLES[name], fontsize=8, fontweight="normal", loc="left")
            panel.label_outer()
        panels[0].set_ylim(-0.03, 1.05)
        if float(values.maximum.min()) > 0:
            log_axis(panels[1])
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|<metadata>.*?</metadata>', r"\1", svg, flags=re.DOTALL)
    boxes = [panel.get_position() for panel in panels]
    return svg, [
        (round(100 * box.x0, 2), round(100 * box.x1, 2), round(100 * (1 - box.y1), 2), round(100 * box.height, 2))
        for box in boxes
    ]
