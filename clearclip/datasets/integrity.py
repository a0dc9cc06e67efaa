"""Is a data set whole? Every pair is read once: sizes, classes and whatever is wrong with it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from clearclip.datasets.base import LabelledPictures, Sample
from clearclip.datasets.files import LabelledFiles, shortened
from clearclip.pictures import BadImage


@dataclass
class Report:
    """What is in a data set: ``sizes`` counts (width, height), ``pixels`` those of each class, (C,)."""

    classes: list[str]
    pixels: NDArray[np.int64]
    count: int = 0  # pairs that were read
    ignored: int = 0  # pixels
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as text, without the faults."""
        if not self.count:
            return ["not one pair could be read"]
        (width, height), often = self.sizes.most_common(1)[0]
        small, large = (extreme(self.sizes, key=lambda size: size[0] * size[1]) for extreme in (min, max))
        labelled = int(self.pixels.sum())
        absent = [name for name, pixels in zip(self.classes, self.pixels, strict=True) if not pixels]
        return [
            f"sizes: {width}×{height} in {often} of {self.count}, from {small[0]}×{small[1]} to {large[0]}×{large[1]}",
            f"labels: {len(self.classes) - len(absent)} of {len(self.classes)} classes occur; "
            f"{self.ignored / (labelled + self.ignored):.1%} of the pixels are ignored",
            *([f"never: {shortened(absent)}"] if absent else []),
        ]


def check(dataset: LabelledPictures, limit: int | None = None, progress: bool = False) -> Report:
    """Read a data set, or `limit` pairs spread evenly over it, and report what is in it and what is wrong.

    >>> from clearclip.datasets import load
    >>> report = check(load("scenes", count=3))
    >>> report.count, report.faults
    (3, [])
    """
    report = Report(dataset.classes, np.zeros(len(dataset.classes), np.int64))
    if isinstance(dataset, LabelledFiles):
        report.faults += [f"{path}: missing" for path in dataset.missing]
        if dataset.published and len(dataset) not in dataset.published:
            due = " or ".join(map(str, dataset.published))
            report.faults.append(f"{len(dataset)} complete pairs, published are {due}")
    for index in tqdm(spread(len(dataset), limit), unit="picture", disable=not progress, leave=False):
        try:
            image, label, _ = dataset[index]
        except BadImage as error:
            report.faults.append(str(error))
            continue
        pixels = np.bincount(label.ravel(), minlength=dataset.ignore_index + 1)
        report.count += 1
        report.sizes[image.size] += 1
        report.pixels += pixels[: len(report.pixels)]
        report.ignored += int(pixels[dataset.ignore_index])
    return report


def examples(dataset: LabelledPictures, count: int) -> list[Sample]:
    """Up to `count` samples, evenly spread over the data set; those that cannot be read are left out."""
    samples = []
    for index in spread(len(dataset), count):
        with suppress(BadImage):  # `check` names it
            samples.append(dataset[index])
    return samples


def spread(length: int, limit: int | None) -> list[int]:
    """Up to `limit` indices below `length`, evenly spread.

    >>> spread(10, 3), spread(2, 3)
    ([0, 4, 9], [0, 1])
    """
    return np.linspace(0, length - 1, min(length, limit or length)).astype(int).tolist()
