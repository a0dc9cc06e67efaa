"""Labelled pictures → batches of equal size → what becomes of the patches at every layer and feature."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from analysis.probes.probe import Probe
from clearclip.datasets import Sample
from clearclip.methods.windows import Windows, resize
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES

T = TypeVar("T")


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


@contextmanager
def probed(
    model: Backbone, layers: Sequence[int], reduce: Callable[[int, Tensor], T]
) -> Iterator[Callable[[Tensor], list[T]]]:
    """Inside, images → what `reduce(site, patches)` makes of every map, the moment it exists; the model is left as it was.

    Sites count 0, 1, 2, …, the three features of the first layer, then those of the next; patches are (B, N, D) float32.
    One probe a site, so that each map can meet its own prototypes.
    """
    sites = [(layer, feature) for layer in layers for feature in FEATURES]
    with ExitStack() as stack:
        probes = [
            stack.enter_context(Probe(model, [layer], [feature], partial(_reduced, reduce, i, model.prefix_tokens)))
            for i, (layer, feature) in enumerate(sites)
        ]

        def forward(images: Tensor) -> list[T]:
            for probe in probes:
                probe.clear()
            model(images)
            return [probe[site] for probe, site in zip(probes, sites, strict=True)]

        for probe in probes:
            probe.clear()  # a share may have no picture at all
        yield forward


def _reduced(reduce: Callable[[int, Tensor], T], site: int, prefix: int, x: Tensor) -> T:
    return reduce(site, x[:, prefix:].float())
