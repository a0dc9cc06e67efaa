"""What the figures of sweeps share: one colour an attention, variant and method, open markers for published numbers."""

import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.plot import FEATURE_STYLE, title
from analysis.published import WITHOUT_BACKGROUND, has_background, settings
from clearclip.errors import UserError
from clearclip.names import SHIPPED
from clearclip.recipes import Recipe
from clearclip.style import WARNING_COLOR

SINGLE, TEXT, DOUBLE = 3.4, 4.8, 7.0  # column widths in inches: one of two columns, ECCV's text, both columns
PUBLISHED = "published"
RING = 6.0  # size of an open marker that stands behind the marker of a line

ATTENTION_STYLE: dict[str, dict[str, Any]] = {
    "qk": {"color": "#000000", "marker": "o"},
    "qq": {"color": "#AA3377", "marker": "D", "markersize": 3.5},
    "kk": {"color": "#56B4E9", "marker": "s"},
    "vv": {"color": "#E69F00", "marker": "^"},
    "identity": {"color": "#8C8C8C", "marker": "P", "linestyle": (0, (4, 1.5))},
}
ATTENTION_LABEL = {"qk": "q-k", "qq": "q-q", "kk": "k-k", "vv": "v-v", "identity": "$I$"}
# what a variant hands on has the colour of its feature map: without FFN X_sum, without residual as well X_attn
VARIANT_STYLE: dict[str, dict[str, Any]] = {
    "full": {"color": "#8C8C8C", "marker": "o", "label": "as it is"},
    "-FFN": {"color": FEATURE_STYLE["X_sum"]["color"], "marker": "v", "label": "− FFN"},
    "-RC": {"color": "#8FCBEF", "marker": "^", "label": "− RC"},
    "-RC-FFN": {"color": FEATURE_STYLE["X_attn"]["color"], "marker": "*", "markersize": 6, "label": "− RC − FFN"},
}
METHOD_STYLE: dict[str, dict[str, Any]] = {
    "clip": {"color": "#000000", "marker": "o"},
    "maskclip": {"color": "#E69F00", "marker": "^"},
    "sclip": {"color": "#AA3377", "marker": "D"},
    "gem": {"color": "#CC79A7", "marker": "s"},
    "TCL": {"color": "#8C8C8C", "marker": "v"},
    "clearclip": {"color": FEATURE_STYLE["X_attn"]["color"], "marker": "*"},
}
METHOD_LABEL = {
    "clip": "CLIP",
    "maskclip": "MaskCLIP",
    "clip_surgery": "CLIPSurgery",
    "sclip": "SCLIP",
    "gem": "GEM",
    "clearclip": "ClearCLIP",
    "maskclip+clearclip": "MaskCLIP + ClearCLIP",
    "sclip+clearclip": "SCLIP + ClearCLIP",
    "gem+clearclip": "GEM + ClearCLIP",
    "naclip": "NACLIP",
    "segearth_ov": "SegEarth-OV",
    "resclip": "ResCLIP (in part)",
    "proxyclip": "ProxyCLIP",
}
DATASET_LABEL = {
    "voc20": "VOC20",
    "voc21": "VOC21",
    "context59": "Context59",
    "context60": "Context60",
    "coco_object": "COCO-Object",
    "coco_stuff": "COCO-Stuff",
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "scenes_background": "scenes with\nbackground",
    "scenes_things": "scenes,\nthings only",
}

KNOBS: dict[str, Any] = {
    "residual": bool,
    "ffn": bool,
    "alpha": float,
    "beta": float,
    "normalize_residual": bool,
    "stream": int,
    "cls_weight": float,
}

# which recipe is which ------------------------------------------------------------------------------------------------


def recipes_of(dataset: xr.Dataset) -> dict[str, Recipe]:
    """The recipes behind the names of a sweep's Dataset, from its coordinates (attention, residual, ffn, alpha, …)."""
    knobs = {name: dataset[name].values.tolist() for name in ("recipe", "attention", "layer", *KNOBS)}
    rows = [dict(zip(knobs, row, strict=True)) for row in zip(*knobs.values(), strict=True)]
    return {
        row["recipe"]: Recipe(
            row["recipe"],
            row["attention"],
            layer=int(row["layer"]) or None,
            **{name: kind(row[name]) for name, kind in KNOBS.items()},
        )
        for row in rows
    }


def recipe_of(dataset: xr.Dataset, name: str) -> Recipe:
    """The recipe behind one name of a sweep's Dataset."""
    return recipes_of(dataset)[name]


def find(dataset: xr.Dataset, recipe: Recipe) -> str | None:
    """The Dataset's name for what a recipe computes, whatever it is called there, or None."""
    wanted = settings(recipe)
    return next((name for name, one in recipes_of(dataset).items() if settings(one) == wanted), None)


def feature_of(dataset: xr.Dataset, name: str) -> str:
    """The feature map that a recipe hands on before its FFN: X_res without attention output, X_attn without residual."""
    one = recipe_of(dataset, name)
    return "X_res" if one.alpha == 0 else "X_sum" if one.residual else "X_attn"


def require(found: Collection[Any], what: str, command: str) -> None:
    """Refuse a Dataset that holds nothing of what a figure shows; raises `UserError` with the command that writes it."""
    if not found:
        raise UserError(f"this Dataset has no recipe with {what}; python -m analysis.{command} writes them.")


# over which datasets --------------------------------------------------------------------------------------------------


def for_mean(dataset: xr.Dataset, paper: Sequence[str] = WITHOUT_BACKGROUND) -> list[str]:
    """The datasets of a mean: of those that are there the paper's, or else all without a background class, or else all."""
    there = dataset.dataset.values.tolist()
    paper = [name for name in paper if name in there]
    return paper or [name for name in there if not has_background(name)] or there


def dataset_label(name: str) -> str:
    """A dataset as a reader knows it.

    >>> dataset_label("coco_stuff"), dataset_label("mine")
    ('COCO-Stuff', 'mine')
    """
    return DATASET_LABEL.get(name, name)


def mean_label(datasets: Sequence[str]) -> str:
    """What was averaged, short enough for an axis; the caption names them all.

    >>> mean_label(["voc20"]), mean_label(["voc20", "ade20k"])
    ('VOC20', 'mean of 2 datasets')
    """
    return dataset_label(datasets[0]).replace("\n", " ") if len(datasets) == 1 else f"mean of {len(datasets)} datasets"


# panels ---------------------------------------------------------------------------------------------------------------


def model_panels(dataset: xr.Dataset, height: float = 1.75) -> tuple[Figure, np.ndarray]:
    """A panel for each model, (models,): one in a single column, two or four in the text's width, three in both columns."""
    count = dataset.sizes["model"]
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    rows = -(-count // columns)
    size = ({1: SINGLE, 2: TEXT}.get(columns, DOUBLE), rows * height + 0.6)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    for panel in axes.flat[count:]:
        panel.remove()
    return figure, axes.flat[:count]


def panel_grid(
    rows: int, columns: int, height: float, widths: tuple[float, float, float] = (SINGLE, TEXT, DOUBLE), **kwargs: Any
) -> tuple[Figure, np.ndarray]:
    """A grid of panels (rows, columns) at a paper's width: that of one column, two, or more of them."""
    size = (widths[min(columns, 3) - 1], rows * height + 0.6)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, **kwargs)


def dataset_grid(
    dataset: xr.Dataset, height: float = 1.35, sharex: bool = True, sharey: bool = False
) -> tuple[Figure, np.ndarray]:
    """A row for each model and a column for each dataset, named along the edges; every panel has its own scale of mIoU."""
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    height += 0.35 if len(names) < 3 and height < 1.5 else 0
    figure, grid = panel_grid(len(models), len(names), height, sharex=sharex, sharey=sharey)
    for row, model in zip(grid, models, strict=True):
        if len(names) == 1:
            title(row[0], dataset, model)
            row[0].set_ylabel(f"{mean_label(names)}\nmIoU (%)")
        else:
            row[0].set_ylabel(f"{model}\nmIoU (%)")
            if bool(dataset.random_weights.sel(model=model)):
                row[0].set_ylabel(f"{model}\nrandom weights\nmIoU (%)", color=WARNING_COLOR)
        for panel in row:
            panel.tick_params(labelsize=6 if len(names) > 4 else 7, pad=2)
            panel.tick_params(axis="x", labelrotation=90 if len(names) > 4 else 0)
    if len(names) > 1:
        for panel, name in zip(grid[0], names, strict=True):
            panel.set_title(dataset_label(name), fontsize=6.2 if len(names) > 4 else 7.5)
    return figure, grid


def label_rows(axes: np.ndarray, text: str) -> None:
    """The y label, at the first panel of each row only."""
    for panel in axes:
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel(text)


def label_columns(axes: np.ndarray, text: str) -> None:
    """The x label, at panels that have none below."""
    below = max(panel.get_subplotspec().rowspan.start for panel in axes)
    for panel in axes:
        if panel.get_subplotspec().rowspan.start == below or len(axes) == 3:
            panel.set_xlabel(text)


def mark_published(axes: Axes, x: float, miou: float | None, color: str = "black", size: float = 3.6) -> None:
    """An open diamond at a published value, nothing where there is none; under a line as a ring around its marker."""
    if miou is not None:
        look = {"markerfacecolor": "white", "markeredgecolor": color, "markersize": size, "markeredgewidth": 0.8}
        axes.plot(x, miou, "d", label=PUBLISHED, zorder=1.9, **look)  # type: ignore[arg-type]


# legends and captions -------------------------------------------------------------------------------------------------


def _published_handle(figure: Figure) -> list[Line2D]:
    """The legend's entry for open markers, if there are any."""
    marked = any(line.get_label() == PUBLISHED for axes in figure.axes for line in axes.lines)
    look = {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 3.6, "markeredgewidth": 0.8}
    return [Line2D([], [], linestyle="none", marker="d", label=PUBLISHED, **look)] if marked else []  # type: ignore[arg-type]


def _legend(figure: Figure, handles: list[Any]) -> None:
    """One legend above the panels, in as few rows as its width allows; the figure grows by the rows above one."""
    handles = [*handles, *_published_handle(figure)]
    widths = [0.36 + 0.06 * len(re.sub(r"\\\w+|[${}_]", "", str(handle.get_label()))) for handle in handles]  # inches
    rows = -(-sum(widths) // (figure.get_figwidth() - 0.1))
    columns = int(-(-len(handles) // rows))
    grow(figure, 0.17 * (-(-len(handles) // columns) - 1))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=columns,
        fontsize=7.5,
        handlelength=1.6,
        handletextpad=0.6,
        columnspacing=1.2,
    )


def grow(figure: Figure, height: float) -> None:
    """Add inches to a figure's height, so that text around the panels takes nothing from them."""
    figure.set_figheight(figure.get_figheight() + height)


def bar_legend(figure: Figure, styles: Mapping[str, dict[str, Any]], used: Sequence[str]) -> None:
    """One legend of filled patches, above the panels."""
    _legend(figure, [Patch(color=styles[name]["color"], label=styles[name].get("label", name)) for name in used])


def marker_legend(figure: Figure, styles: Mapping[str, dict[str, Any]], used: Sequence[str]) -> None:
    """One legend of markers without lines, above the panels."""
    _legend(figure, [Line2D([], [], linestyle="none", **{"label": name, **styles[name]}) for name in used])


def method_legend(figure: Figure, styles: Mapping[str, dict[str, Any]]) -> None:
    """One legend of coloured lines with markers, a name a method, above the panels."""
    _legend(figure, [Line2D([], [], label=name, **look) for name, look in styles.items()])


def line_legend(figure: Figure) -> None:
    """One legend of everything that is labelled in any panel, above them."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label != PUBLISHED:
                found.setdefault(label, handle)
    _legend(figure, list(found.values()))


def images(dataset: xr.Dataset, datasets: Sequence[str]) -> str:
    """Which datasets, with how many images each, as one line of text."""
    counts = dataset.images.sel(dataset=list(datasets)).max("model").values.astype(int)
    parts = [f"{dataset_label(name)} ({count:,})" for name, count in zip(datasets, counts, strict=True)]
    parts[0] = parts[0].removesuffix(")") + f" image{'s' * int(counts[0] != 1)})"
    return ", ".join(parts).replace("\n", " ")


def shipped(dataset: xr.Dataset) -> str:
    """A line that names the small trained models that come with the package, if a Dataset has any, or nothing."""
    small = dataset.model.values[
        np.isin(dataset.architecture.values.astype(str), [f"zoo:{name}" for name in SHIPPED])
        & ~dataset.random_weights.values.astype(bool)
    ]
    return f"{' and '.join(small)}: small, trained on drawn scenes, shipped with the toolkit" if len(small) else ""


def caption(figure: Figure, dataset: xr.Dataset, datasets: Sequence[str], more: str = "") -> None:
    """Small lines below the figure: which datasets with how many images, and which models are the shipped small ones."""
    parts = images(dataset, datasets).replace(" (", "\u00a0(").replace(" images", "\u00a0images")
    lines = textwrap.wrap(parts + (f" · {more}" if more else ""), int(figure.get_figwidth() * 19))
    lines += [line] if (line := shipped(dataset)) else []
    grow(figure, 0.11 * (len(lines) - 1))
    figure.supxlabel("\n".join(lines), fontsize=6.5, color="#555555")
