"""What the figures share: one style, one colour a feature, lines over layers, and a line that says what is shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from clearclip.models.names import SHIPPED
from clearclip.segmentation.style import WARNING_COLOR, style

# Okabe and Ito's colours, told apart by colour-blind readers; each with a marker of its own for print in grey
FEATURE_STYLE: dict[str, dict[str, Any]] = {
    "X_res": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "X_attn": {"color": "#0072B2", "marker": "s", "linestyle": "-"},
    "X_sum": {"color": "#009E73", "marker": "^", "linestyle": (0, (4, 1.5))},
}
FEATURE_LABEL = {"X_res": r"$X_\mathrm{res}$", "X_attn": r"$X_\mathrm{attn}$", "X_sum": r"$X_\mathrm{sum}$"}


def panels(
    count: int, width: float = 2.3, height: float = 1.95, rows: int = 1, **kwargs: Any
) -> tuple[Figure, np.ndarray]:
    """A grid of `rows` × `count` equal panels; returns the figure and its axes (rows, count)."""
    size = (max(count * width, 3.4) + 0.35, rows * height + 0.55)
    return plt.subplots(rows, count, figsize=size, squeeze=False, **kwargs)


def title(axes: Axes, dataset: xr.Dataset, model: str) -> None:
    """Name the model above its panel, and say it aloud if its weights are random."""
    random = bool(dataset.random_weights.sel(model=model))
    axes.set_title(f"{model}\nrandom weights" if random else model, color=WARNING_COLOR if random else "black")


def caption(figure: Figure, dataset: xr.Dataset, tokens: str, more: str = "") -> None:
    """One small line below the figure: how many images, which tokens, at which size."""
    sizes = sorted({int(size) for size in np.atleast_1d(dataset.image_size)})
    parts = [f"mean over {dataset.attrs['images']} images at {', '.join(map(str, sizes))} px"]
    shipped = [f"zoo:{model}" for model in SHIPPED]
    small = dataset.model.values[
        np.isin(dataset.architecture.values.astype(str), shipped) & ~dataset.random_weights.values
    ]
    parts.append({"patches": "patch tokens", "all": "all tokens (CLS and registers included)"}[tokens])
    line = " · ".join([*parts, more] if more else parts)
    if len(small):
        line += f"\n{' and '.join(small)}: small, trained on drawn scenes, shipped with the toolkit"
    figure.supxlabel(line, fontsize=6.5, color="#555555")


def legend(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, above them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=2.4, columnspacing=1.6)


def layer_axis(axes: Axes, layers: Sequence[int]) -> None:
    """Layers are whole numbers, counted from 1."""
    axes.set_xlim(min(layers) - 0.4, max(layers) + 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    axes.set_xlabel("layer")


def draw_layers(axes: Axes, values: xr.DataArray) -> None:
    """Mean over images of each feature (image, layer, feature) against the layer; the band holds 80 % of the images."""
    for feature in values.feature.values.tolist():
        one = values.sel(feature=feature).dropna("layer", how="all")
        axes.plot(
            one.layer,
            one.mean("image"),
            label=FEATURE_LABEL[feature],
            markeredgecolor="white",
            **FEATURE_STYLE[feature],
        )
        if one.sizes["image"] > 1:
            low, high = one.quantile([0.1, 0.9], "image")
            axes.fill_between(one.layer, low, high, color=FEATURE_STYLE[feature]["color"], alpha=0.15, linewidth=0)
    layer_axis(axes, values.dropna("layer", how="all").layer.values.tolist())


def layers_figure(
    dataset: xr.Dataset,
    variable: str,
    tokens: str,
    scale: str = "linear",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Fig. 4a and b: a column a model, a row a source of pictures, a line a feature, the statistic against the layer.

    `scale` is linear, or log, which stays linear if not every value is positive.
    """
    models, sources = dataset.model.values.tolist(), list(dict.fromkeys(dataset.source.values.tolist()))
    if scale == "log" and not float(dataset[variable].sel(tokens=tokens).min()) > 0:
        scale = "linear"
    with style():
        figure, axes = panels(len(models), rows=len(sources), sharex="col", sharey=True)
        for row, source in zip(axes, sources, strict=True):
            one = dataset[variable].sel(tokens=tokens).isel(image=dataset.source.values == source)
            for panel, model in zip(row, models, strict=True):
                draw_layers(panel, one.sel(model=model))
                if scale == "log":
                    log_axis(panel)
                panel.set_xlabel("")
                if limits is not None:
                    panel.set_ylim(*limits)
            where = f"{Path(source).name} ({one.sizes['image']})\n" if len(sources) > 1 else ""
            row[0].set_ylabel(where + axis_label(dataset[variable]))
        for panel, last, model in zip(axes[0], axes[-1], models, strict=True):
            title(panel, dataset, model)
            last.set_xlabel("layer")
        legend(figure, axes.flat[0])
        caption(figure, dataset, tokens, "band: 80 % of the images" if dataset.attrs["images"] > 1 else "")
    return figure


def log_axis(axes: Axes) -> None:
    """A logarithmic axis with plain numbers, also where it spans less than a decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def axis_label(variable: xr.DataArray) -> str:
    """A variable's name and unit, for an axis."""
    name, units = variable.attrs["long_name"], variable.attrs["units"]
    return name if units == "1" else f"{name} ({units})"
