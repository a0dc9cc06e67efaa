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

from clearclip.segmentation.style import WARNING_COLOR, picture_panel, shortened, style

OPACITY = 0.62
LEGEND_COLUMNS = 6
VISIBLE = 0.005  # share of a picture that a class needs to be in the legend
# Okabe and Ito's colors first, so that a few classes are told apart by everyone, then Paul Tol's muted ones
FIRST = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442"),
    *("#332288", "#882255", "#999933", "#661100", "#AA4499", "#44AA99", "#DDCC77"),
)
BACKGROUND = (0.62, 0.62, 0.62)
EXPLAINED = 14  # classes in a legend


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
    """The color of every class, `of` (classes, 3) in [0, 1], and which names a figure's legend explains."""

    of: np.ndarray
    legend: Mapping[str, np.ndarray] = field(default_factory=dict)
    unexplained: int = 0  # classes that can be seen beyond those in the legend


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


def tinted(picture: np.ndarray, labels: np.ndarray, colors: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """A picture (H, W, 3) uint8 in gray, the colors (classes, 3) of its labels (H, W) over it, (H, W, 3) in [0, 1]."""
    gray = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float64)[..., None] / 255
    return (1 - opacity) * gray + opacity * colors[labels]


def flat(labels: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """True labels (H, W) as plain colours, (H, W, 3) in [0, 1]; what is not labelled is white."""
    pixels = colors[np.minimum(labels, len(colors) - 1)]
    pixels[labels >= len(colors)] = 1
    return pixels


def class_colors(classes: Sequence[str]) -> np.ndarray:
    """The color of every class by its place in the list, the same in every figure, (classes, 3) in [0, 1].

    Background is gray and takes no place, so that a class has one color with and without it.

    >>> bool((class_colors(["background", "boat"])[1] == class_colors(["boat"])[0]).all())
    True
    >>> class_colors(["background"]).shape
    (1, 3)
    """
    background = len(classes) > 0 and classes[0] == "background"
    colors = np.reshape(palette(len(classes) - background), (-1, 3))  # there may be none beside the background
    return np.vstack([[BACKGROUND], colors]) if background else colors


def explained(rows: Sequence[Row], classes: Sequence[str], count: int = EXPLAINED) -> Colors:
    """The colors of `class_colors`, and a legend of the classes to be seen: the true ones first, then by what they cover.

    >>> row = Row(np.zeros((1, 4, 3), np.uint8), {"clip": np.uint8([[0, 5, 5, 9]])}, np.uint8([[9, 9, 9, 255]]))
    >>> colors = explained([row], [f"class {i}" for i in range(10)], count=2)
    >>> list(colors.legend), colors.unexplained
    (['class 9', 'class 5'], 1)
    """
    colors = class_colors(classes)
    covered = _shares(rows, len(classes)).max(0)
    true = _shares([Row(row.picture, {}, row.truth) for row in rows], len(classes)).max(0)
    seen = np.flatnonzero(covered >= min(VISIBLE, covered.max())).tolist()
    order = sorted(seen, key=lambda label: (true[label] < VISIBLE, -covered[label]))[:count]
    named = order if len(seen) > count else sorted(order)  # all of them: in the order of the list
    return Colors(colors, {classes[label]: colors[label] for label in named}, len(seen) - len(named))


def _shares(rows: Sequence[Row], classes: int) -> np.ndarray:
    """How much of each label map every class covers, (maps, classes)."""
    maps = [labels for row in rows for labels in (*row.maps.values(), *([] if row.truth is None else [row.truth]))]
    counts = [np.bincount(labels.ravel(), minlength=classes)[:classes] / labels.size for labels in maps]
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
        picture_panel(panel)
    for panel, name in zip(axes[-len(row.maps) :], row.maps, strict=True):
        accuracy = row.accuracy.get(name, np.nan)
        if np.isfinite(accuracy):  # there is none where no pixel has a label
            panel.set_xlabel(f"{accuracy:.0f} % of pixels", fontsize=6, labelpad=2)
    if row.name:
        axes[0].set_ylabel(row.name, fontsize=7)


def handles(colors: Colors) -> list[Patch]:
    """A patch for each entry of the legend, and a word on the classes that it leaves out."""
    patches = [Patch(color=tuple(color.tolist()), label=shortened(name)) for name, color in colors.legend.items()]
    if colors.unexplained:
        patches.append(Patch(color="none", label=f"and {colors.unexplained} more"))
    return patches


def draw_rows(rows: Sequence[Row], colors: Colors, title: str = "", warn: bool = False, width: float = 1.9) -> Figure:
    """One row per picture: the photo, the true labels if given, then every label map; one legend of the visible classes.

    Args:
        rows: pictures that all have the same maps.
        colors: what `explained` gives for them.
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
