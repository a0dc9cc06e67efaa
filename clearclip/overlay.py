"""Pictures of segmentations: a palette, classes laid over a photo, recipes side by side (paper Figs. 1, 3 and 7)."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Patch

from clearclip.style import WARNING_COLOR, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clearclip.segmenter import Segmentation

OPACITY = 0.62
LEGEND_COLUMNS = 6
VISIBLE = 0.005  # share of a picture that a class needs to be in the legend
# Okabe and Ito's colours first, so that a few classes are told apart by everyone
FIRST = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F")


def palette(count: int) -> np.ndarray:
    """Colours of `count` classes, (count, 3) in [0, 1].

    >>> palette(3).shape
    (3, 3)
    """
    colors = list(sns.color_palette(FIRST))
    if count > len(colors):  # steps of the golden angle keep neighbours in the list far apart
        hues = (np.arange(count - len(colors)) * 0.618034) % 1
        colors += [sns.husl_palette(1, h=hue, s=0.75, l=0.45 + 0.3 * (i % 2))[0] for i, hue in enumerate(hues)]
    return np.array(colors[:count])


def overlaid(result: "Segmentation") -> np.ndarray:
    """The picture in grey with its classes in colour over it, (H, W, 3) in [0, 1]."""
    grey = np.asarray(result.picture.convert("L"), dtype=np.float64)[..., None] / 255
    colors = palette(len(result.classes))[result.labels]
    return (1 - OPACITY) * grey + OPACITY * colors


def _visible(maps: Sequence[np.ndarray], classes: int) -> list[int]:
    """The classes that cover enough of one label map (H, W) to be seen; at least the largest."""
    shares = np.stack([np.bincount(one.ravel(), minlength=256)[:classes] / one.size for one in maps])
    return np.flatnonzero(shares.max(0) >= min(VISIBLE, shares.max())).tolist()


def side_by_side(
    results: Sequence[Mapping[str, "Segmentation"]], truth: Sequence[np.ndarray] | None = None
) -> "Figure":
    """A row a picture: the photo, the true labels if given, then every recipe; one legend of the classes to be seen."""
    first = next(iter(results[0].values()))
    recipes = list(results[0])
    columns = 1 + (truth is not None) + len(recipes)
    ratio = np.mean([one.picture.height / one.picture.width for row in results for one in row.values()])
    width = 1.9 if columns > 2 else 2.6
    maps = [one.labels for row in results for one in row.values()] + list(truth if truth is not None else [])
    present = _visible(maps, len(first.classes))
    legend_columns = min(len(present), LEGEND_COLUMNS, 2 * columns)
    height = len(results) * width * ratio + 0.65 + 0.19 * -(-len(present) // legend_columns)
    with style():
        figure, axes = plt.subplots(len(results), columns, squeeze=False, figsize=(columns * width, height))
        for row, (line, by_recipe) in enumerate(zip(axes, results, strict=True)):
            some = next(iter(by_recipe.values()))
            line[0].imshow(some.picture)
            if truth is not None:
                shown = palette(len(first.classes))[np.minimum(truth[row], len(first.classes) - 1)]
                shown[truth[row] >= len(first.classes)] = 1  # not labelled
                line[1].imshow(shown)
            for panel, one in zip(line[columns - len(recipes) :], by_recipe.values(), strict=True):
                panel.imshow(overlaid(one))
        titles = ["photo", *(["ground truth"] if truth is not None else []), *recipes]
        for panel, title in zip(axes[0], titles, strict=True):
            panel.set_title(re.sub(r"X_(\w+)", r"$X_\\mathrm{\1}$", title))
        for panel in axes.flat:
            panel.set(xticks=[], yticks=[])
            panel.grid(False)
            panel.spines[:].set_visible(False)
        handles = [Patch(color=palette(len(first.classes))[label], label=first.classes[label]) for label in present]
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns)
        name = f"{first.model} · RANDOM WEIGHTS, the picture means nothing" if first.random_weights else first.model
        figure.suptitle(name, fontsize=8, color=WARNING_COLOR if first.random_weights else "#555555")
    return figure
