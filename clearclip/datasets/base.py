"""What every data set hands out, and what is known about one before any picture is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Facts:
    """What is known about a data set by its name alone: how it is called, and the protocol of its published numbers (§4).

    Args:
        title: its name in tables and on axes.
        background: whether class 0 is "background", everything that no other class names.
        threshold: pixels whose best score is below this become background; 0 where there is none.
        clip_threshold: the threshold for the untouched encoder, if it was given another one.
        half_windows: whether sliding windows have half the usual side.
        printed: its column in the published tables, "" if it is not in them.
    """

    title: str
    background: bool = False
    threshold: float = 0.0
    clip_threshold: float | None = None
    half_windows: bool = False
    printed: str = ""


class Sample(NamedTuple):
    """One picture with a class index for every pixel.

    ``image`` is RGB, ``label`` an integer array (H, W) of the same height and width, ``name`` unique in its data set.
    """

    image: Image.Image
    label: NDArray[np.integer]  # (H, W)
    name: str


class LabelledPictures(Protocol):
    """What a data set is to those who evaluate on it: labels are indices into ``classes``, or ``ignore_index``.

    A run is continued only with the same ``identity``, and the digest of a result is of the pictures and labels themselves.
    """

    name: str
    classes: list[str]
    ignore_index: int

    @property
    def identity(self) -> str:
        """A text that changes when the pictures or labels do; empty if that is not known without reading them."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
