"""What every data set hands out."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Sample(NamedTuple):
    """One picture with a class index for every pixel.

    ``image`` is RGB, ``label`` an integer array (H, W) of the same height and width, ``name`` unique in its data set.
    """

    image: Image.Image
    label: NDArray[np.integer]  # (H, W)
    name: str


class LabelledPictures(Protocol):
    """What a data set is to those who evaluate on it: labels are indices into ``classes``, or ``ignore_index``.

    A run is continued only with the same ``identity``.
    """

    name: str
    classes: list[str]
    ignore_index: int

    @property
    def identity(self) -> str:
        """A text that changes when the pictures or labels do."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
