"""A sheet of samples: photos beside their labels in color, with the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from clearclip.datasets.base import Sample
from clearclip.segmentation.overlay import class_colors, tinted
from clearclip.segmentation.style import shortened, style

COLUMNS = 2  # samples in a row
NAMED = 12  # classes in one legend, the largest first
OPACITY = 0.75


def sheet(samples: Sequence[Sample], classes: Sequence[str], title: str) -> Figure:
    """A figure of samples, each a photo, its labels laid over it (ignored pixels white) and their classes."""
    colors = class_colors(classes)
    rows = -(-len(samples) // COLUMNS)
    with style():
        figure = plt.figure(figsize=(COLUMNS * 4.4, rows * 2.3 + 0.3), layout="constrained")
        figure.suptitle(title)
        parts = figure.subfigures(rows, COLUMNS, squeeze=False)
        for part, sample in zip(parts.flat, samples, strict=False):
            _draw(part, sample, classes, colors)
    return figure


def _draw(part: SubFigure, sample: Sample, classes: Sequence[str], colors: NDArray[np.floating]) -> None:
    photo, labels = part.subplots(1, 2)
    photo.imshow(sample.image)
    labels.imshow(colored(sample, colors))
    for panel in (photo, labels):
        panel.set_axis_off()
        panel.set_anchor("S")  # next to the legend
    photo.set_title(shortened(sample.name), fontsize=7, loc="left")
    pixels = np.bincount(sample.label.ravel())[: len(classes)]
    largest = [i for i in np.argsort(-pixels, kind="stable") if pixels[i]]
    handles = [Patch(color=colors[i], label=shortened(classes[i])) for i in largest[:NAMED]]
    if len(largest) > NAMED:
        handles.append(Patch(alpha=0, label=f"and {len(largest) - NAMED} more"))
    part.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=6, handlelength=1, columnspacing=1)


def colored(sample: Sample, colors: NDArray[np.floating]) -> NDArray[np.floating]:
    """The photo in grey under the colors of its classes, (H, W, 3) in [0, 1]; ignored pixels are white."""
    picture = tinted(np.asarray(sample.image), np.minimum(sample.label, len(colors) - 1), colors, OPACITY)
    picture[sample.label >= len(colors)] = 1
    return picture
