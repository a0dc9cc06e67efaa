"""What every data set hands out."""

from typing import NamedTuple

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
