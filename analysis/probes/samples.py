"""A few pictures at a time, those that can be read, with their true labels where they have any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from analysis.probes.images import Picture, pictures
from clearclip.datasets import LabelledPictures, Sample, is_dataset
from clearclip.errors import UserError
from clearclip.pictures import BadImage

T = TypeVar("T")


def photographed(photos: Sequence[Picture]) -> Iterator[Callable[[], Sample]]:
    """Readers of pictures without labels: their label maps have size 0."""
    return (partial(_photograph, picture) for picture in photos)


def _photograph(picture: Picture) -> Sample:
    return Sample(picture.read(), np.zeros((0, 0), np.uint8), picture.name)


def as_samples(source: Any) -> list[Sample]:
    """Samples as they are, the pairs of a data set, and any other kind of pictures without labels."""
    if isinstance(source, (list, tuple)) and all(isinstance(part, Sample) for part in source):
        return list(source)
    if is_dataset(source):
        return usable(labelled(source))
    return usable(photographed(pictures(source)))


def labelled(dataset: LabelledPictures, first: int = 0) -> Iterator[Callable[[], Sample]]:
    """Readers of the pairs of a data set, from one of them on; raises `UserError` if there is none."""
    if not 0 <= first < len(dataset):
        raise UserError(f"first {first}: {dataset.name} has {len(dataset)} pictures, counted from 0.")
    return (partial(dataset.__getitem__, i) for i in range(first, len(dataset)))


def readable(photos: Sequence[Picture], strict: bool = False) -> list[Picture]:
    """Those of a few pictures that can be read, as `usable` finds them."""
    return usable((partial(_tried, picture) for picture in photos), strict=strict)


def _tried(picture: Picture) -> Picture:
    picture.read()
    return picture


def usable(readers: Iterable[Callable[[], T]], limit: int | None = None, strict: bool = False) -> list[T]:
    """What can be read, up to a number; what cannot is named and left out, or refused if `strict`."""
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: at least one picture is needed.")
    good: list[T] = []
    for read in readers:
        try:
            good.append(read())
        except BadImage as error:
            if strict:
                raise UserError(f"{error} (refused because of strict)") from error
            print(f"skipped: {error}")
        if len(good) == limit:
            break
    if not good:
        raise UserError("not one picture could be used.")
    return good
