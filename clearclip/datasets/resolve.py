"""Whatever stands for a data set: a name, a folder, an object with classes and samples, or a torch Dataset of pairs."""

from __future__ import annotations

from os import PathLike
from typing import Any, TypeGuard

from clearclip.datasets.base import LabelledPictures
from clearclip.datasets.pairs import Pairs
from clearclip.datasets.registry import parse
from clearclip.errors import UserError

CAN_BE_TAKEN = (
    'a name such as "scenes" or "voc20:data/voc", a folder with images/, labels/ and classes.txt, or an object with '
    "`classes` and pairs of picture and label map"
)


def is_dataset(source: Any) -> TypeGuard[LabelledPictures]:
    """Whether an object is a data set as `LabelledPictures` describes it."""
    return all(hasattr(source, part) for part in ("name", "classes", "ignore_index", "identity", "__getitem__"))


def as_dataset(
    source: Any, names: str = "clearclip", split: str | None = None, partial: bool = False
) -> LabelledPictures:
    """A data set, whatever stands for it.

    Args:
        source: "scenes", "voc20:data/voc" or a folder, as `parse` takes them; a `LabelledPictures`; or a torch Dataset of
            (picture, label map) pairs with a list `classes`.
        names: as in `parse`.
        split: as in `parse`.
        partial: as in `parse`.

    Raises:
        UserError: it is nothing of that, or `parse` raises it.

    >>> as_dataset("scenes").name
    'scenes'
    """
    if isinstance(source, (str, PathLike)):
        return parse(str(source), names, split, partial)
    if is_dataset(source):
        return source
    if hasattr(source, "__getitem__") and hasattr(source, "__len__") and hasattr(source, "classes"):
        return Pairs(source)
    raise UserError(f"a data set cannot be made of {type(source).__name__}: give {CAN_BE_TAKEN}.")
