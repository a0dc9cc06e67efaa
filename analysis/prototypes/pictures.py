"""Labelled pictures → batches of equal size."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from clearclip.datasets import Sample
from clearclip.methods.windows import Windows, resize
from clearclip.models.backbone import Backbone


def prepared(model: Backbone, windows: Windows, samples: Sequence[Sample]) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised pictures (B, 3, H', W'), those of equal size together, and their label maps (B, H, W).

    H' and W' are the sizes of the protocol, rounded to whole patches, so the whole picture is seen in one pass.
    """
    groups: dict[tuple[int, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.label.shape, []).append(sample)
    patch = model.patch_size
    for (height, width), group in groups.items():
        pixels = torch.from_numpy(np.stack([np.asarray(sample.image) for sample in group])).to(model.device)
        rows, columns = (max(round(side / patch), 1) for side in windows.resized(height, width))
        images = torch.stack(
            [resize(picture, (rows * patch, columns * patch)) for picture in pixels.permute(0, 3, 1, 2)]
        )
        labels = torch.from_numpy(np.stack([sample.label for sample in group]).astype(np.int64))
        yield model.normalize(images / 255), labels.to(model.device)
