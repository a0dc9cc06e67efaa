"""Label maps as pictures: a palette, classes laid over a photo, maps beside it (paper Figs. 1, 3 and 7)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from clearclip.segmentation.style import WARNING_COLOR, style

OPACITY = 0.62
LEGEND_COLUMNS = 6
VISIBLE = 0.005  # share of a picture that a class needs to be in the legend
# Okabe and Ito's colours first, so that a few classes are told apart by everyone
FIRST = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F")
# for print also Paul Tol's muted ones; all further classes share one gray
PRINTED = (*FIRST[:7], "#332288", "#882255", "#999933", "#661100", "#AA4499", "#44AA99", "#DDCC77")
OTHER = (0.83, 0.83, 0.83)


@dataclass(frozen=True)
class Row:
    """One picture and its label maps: picture (H, W, 3) uint8, maps (H, W) by name, true labels (H, W) or None."""

    picture: np.ndarray
    maps: Mapping[str, np.ndarray]
    truth: np.ndarray | None = None
    name: str = ""
    accuracy: Mapping[str, float] = field(default_factory=dict)  # pixel accuracy in % of each map, if it is known


@dataclass(frozen=True)
class Colors:
    """The color of every class in one figure: `of` (classes, 3) in [0, 1], and the names that its legend explains."""

    of: np.ndarray
    legend: Mapping[str, np.ndarray] = field(default_factory=dict)


def palette(count: int) -> np.ndarray:
    """Colors of `count` classes, (count, 3) in [0, 1].

    >>> palette(3).shape
    (3, 3)
    """
    colors = list(sns.color_palette(FIRST))
    if count > len(colors):  # steps of the golden angle keep neighbours in the list far apart
        hues = (np.arange(count - len(colors)) * 0.618034) % 1
        colors += [sns.husl_palette(1, h=hue, s=0.75, l=0.45 + 0.3 * (i % 2))[0] for i, hue in enumerate(hues)]
    return np.array(colors[:count])


def tinted(picture: np.ndarray, labels: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 in grey, the colours (classes, 3) of its labels (H, W) over it, (H, W, 3) in [0, 1]."""
    grey = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float64)[..., None] / 255
    return (1 - OPACITY) * grey + OPACITY * colors[labels]


def flat(labels: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """True labels (H, W) as plain colours, (H, W, 3) in [0, 1]; what is not labelled is white."""
    pixels = colors[np.minimum(labels, len(colors) - 1)]
    pixels[labels >= len(colors)] = 1
    return pixels


def fixed_colors(rows: Sequence[Row], classes: Sequence[str]) -> Colors:
    """The colours of `palette` by class index, the same in every figure; the legend has the classes that can be seen."""
    shares = _shares(rows, len(classes))
    largest = shares.max(0)
    colors = palette(len(classes))
    seen = np.flatnonzero(largest >= min(VISIBLE, largest.max())).tolist()
    return Colors(colors, {classes[label]: colors[label] for label in seen})


def few_colors(rows: Sequence[Row], classes: Sequence[str], count: int = len(PRINTED)) -> Colors:
    """Colours for print: the true classes have the first ones, then those that cover most; beyond `count` all are grey.

    >>> row = Row(np.zeros((1, 4, 3), np.uint8), {"clip": np.uint8([[0, 5, 5, 9]])}, np.uint8([[9, 9, 9, 255]]))
    >>> list(few_colors([row], [f"class {i}" for i in range(10)], count=2).legend)
    ['class 9', 'class 5', 'other classes']
    """
    covered = _shares(rows, len(classes)).max(0)
    true = _shares([Row(row.picture, {}, row.truth) for row in rows], len(classes)).max(0)
    order = sorted(np.flatnonzero(covered).tolist(), key=lambda label: (true[label] < VISIBLE, -covered[label]))
    first, rest = order[: min(count, len(PRINTED))], order[min(count, len(PRINTED)) :]
    colors = np.tile(np.array(OTHER), (len(classes), 1))
    colors[first] = np.array(sns.color_palette(PRINTED))[: len(first)]
    legend = {classes[label]: colors[label] for label in first if covered[label] >= VISIBLE or label == first[0]}
    if covered[rest].max(initial=0) >= VISIBLE:
        legend["other classes"] = np.array(OTHER)
    return Colors(colors, legend)


def _shares(rows: Sequence[Row], classes: int) -> np.ndarray:
    """How much of each label map every class covers, (maps, classes)."""
    maps = [one for row in rows for one in (*row.maps.values(), *([] if row.truth is None else [row.truth]))]
    counts = [np.bincount(one.ravel(), minlength=classes)[:classes] / one.size for one in maps]
    return np.stack([*counts, np.zeros(classes)])


def titles(row: Row) -> list[str]:
    """What stands above the columns of a row."""
    names = ["photo", *(["ground truth"] if row.truth is not None else []), *row.maps]
    return [re.sub(r"X_([a-z]+)", r"$X_\\mathrm{\1}$", name) for name in names]


def draw_row(axes: Sequence[Axes], row: Row, colors: Colors) -> None:
    """Draw one picture, its true labels if there are any, and its label maps into as many axes."""
    images = [row.picture] if row.truth is None else [row.picture, flat(row.truth, colors.of)]
    images += [tinted(row.picture, labels, colors.of) for labels in row.maps.values()]
    for panel, image in zip(axes, images, strict=True):
        panel.imshow(image)
        panel.set(xticks=[], yticks=[])
        panel.grid(False)
        panel.spines[:].set_visible(False)
    for panel, name in zip(axes[-len(row.maps) :], row.maps, strict=True):
        if name in row.accuracy:
            panel.set_xlabel(f"{row.accuracy[name]:.0f} % of pixels", fontsize=6, labelpad=2)
    if row.name:
        axes[0].set_ylabel(row.name, fontsize=7)


def handles(colors: Colors) -> list[Patch]:
    """A patch for each entry of the legend."""
    return [Patch(color=tuple(color.tolist()), label=name) for name, color in colors.legend.items()]


def draw_rows(rows: Sequence[Row], colors: Colors, title: str = "", warn: bool = False, width: float = 1.9) -> Figure:
    """One row per picture: the photo, the true labels if given, then every label map; one legend of the visible classes.

    Args:
        rows: pictures that all have the same maps.
        colors: what `fixed_colors` or `few_colors` gives for them.
        title: one line above it all.
        warn: the title is in the warning color.
        width: of one column, in inches.
    """
    names = titles(rows[0])
    ratios = [row.picture.shape[0] / row.picture.shape[1] for row in rows]
    legend_columns = max(1, min(len(colors.legend), LEGEND_COLUMNS, round(1.05 * width * len(names))))
    height = (
        width * sum(ratios)
        + 0.15 * sum(bool(row.accuracy) for row in rows)
        + 0.65
        + 0.19 * -(-len(colors.legend) // legend_columns)
    )
    with style():
        figure, axes = plt.subplots(
            len(rows),
            len(names),
            squeeze=False,
            figsize=(len(names) * width, height),
            gridspec_kw={"height_ratios": ratios},
        )
        for line, row in zip(axes, rows, strict=True):
            draw_row(line, row, colors)
        for panel, name in zip(axes[0], names, strict=True):
            panel.set_title(name)
        figure.legend(handles=handles(colors), loc="outside lower center", ncols=legend_columns)
        if title:
            figure.suptitle(title, fontsize=8, color=WARNING_COLOR if warn else "#555555")
    return figure
