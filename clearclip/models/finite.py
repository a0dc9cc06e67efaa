"""One check between features and results: values that are not finite are refused, with the place where they arose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from clearclip.errors import UserError, overflow_hint
from clearclip.models.backbone import Backbone


def require_finite(finite: Tensor | np.ndarray, pictures: Sequence[str], sites: Sequence[str], model: Backbone) -> None:
    """Refuse features that are not finite, before they become labels, maps or numbers.

    Args:
        finite: whether all values of each picture are finite at each site, (pictures, sites) bool; waits for its device.
        pictures: what the pictures are called.
        sites: where the values stand, such as "X_res of layer 3" or "recipe clearclip".
        model: whose features they are.

    Raises:
        UserError: one is False; the first is named.

    >>> import clearclip
    >>> model = clearclip.load("clip_tiny")
    >>> require_finite(np.array([[True], [False]]), ["a.png", "b.png"], ["X_res of layer 3"], model)
    Traceback (most recent call last):
    clearclip.errors.UserError: b.png: non-finite values in X_res of layer 3 of clip_tiny. Its weights hold numbers that ...
    """
    values = finite.cpu().numpy() if isinstance(finite, Tensor) else finite
    if values.all():
        return
    picture, site = np.argwhere(~values)[0]
    raise UserError(
        f"{pictures[picture]}: non-finite values in {sites[site]} of {model.name}.{overflow_hint(model.precision)}"
    )


def feature_sites(layers: Sequence[int], features: Sequence[str]) -> list[str]:
    """The names of feature maps for `require_finite`, in the order of probes: all features of a layer, then the next layer.

    >>> feature_sites([3], ["X_res", "X_attn"])
    ['X_res of layer 3', 'X_attn of layer 3']
    """
    return [f"{feature} of layer {layer}" for layer in layers for feature in features]
