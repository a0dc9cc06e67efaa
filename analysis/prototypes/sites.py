"""Where the patches of a model are read: in the feature maps of its layers, or in what each head gathers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from analysis.probes.heads import head_outputs, head_width
from analysis.probes.probe import Probe
from clearclip.models.backbone import Backbone, BlockInput
from clearclip.models.block import FEATURES

T = TypeVar("T")


class Sites(ABC):
    """Equally many places in each of some layers; all are read in one pass.

    Args:
        model: whose patches.
        layers: counted from 1.
    """

    dim: ClassVar[str]
    """What a place within a layer is called, as a dimension of results."""

    def __init__(self, model: Backbone, layers: Sequence[int]) -> None:
        self.model, self.layers = model, tuple(layers)

    @property
    @abstractmethod
    def labels(self) -> list[str] | list[int]:
        """The places of one layer."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of a patch."""

    @abstractmethod
    def title(self, place: int) -> str:
        """The place of this index, in words."""

    @abstractmethod
    def probed(self, reduce: Callable[[int, Tensor], T]) -> AbstractContextManager[Callable[[Tensor], list[T]]]:
        """Inside, images → what `reduce(site, patches)` makes of every site, the moment it exists; the model is left as it was.

        Sites count 0, 1, 2, … in the order of `titles`; patches are (B, N, `width`) float32.
        """

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, and places of each."""
        return len(self.layers), len(self.labels)

    @property
    def titles(self) -> list[str]:
        """Every site in words, all places of the first layer, then those of the next."""
        return [f"{self.title(i)} of layer {layer}" for layer in self.layers for i in range(len(self.labels))]


class Features(Sites):
    """X_res, X_attn and X_sum of every layer."""

    dim = "feature"

    @property
    def labels(self) -> list[str]:
        """Their names in the paper."""
        return list(FEATURES)

    @property
    def width(self) -> int:
        """D."""
        return self.model.width

    def title(self, place: int) -> str:
        """Its name in the paper."""
        return FEATURES[place]

    @contextmanager
    def probed(self, reduce: Callable[[int, Tensor], T]) -> Iterator[Callable[[Tensor], list[T]]]:
        """One probe a site, so that each map can meet its own prototypes."""
        sites = [(layer, feature) for layer in self.layers for feature in FEATURES]
        prefix = self.model.prefix_tokens
        with ExitStack() as stack:
            probes = [
                stack.enter_context(Probe(self.model, [layer], [feature], partial(_reduced, reduce, i, prefix)))
                for i, (layer, feature) in enumerate(sites)
            ]

            def forward(images: Tensor) -> list[T]:
                for probe in probes:
                    probe.clear()
                self.model(images)
                return [probe[site] for probe, site in zip(probes, sites, strict=True)]

            for probe in probes:
                probe.clear()  # a share may have no picture at all
            yield forward


class Heads(Sites):
    """A·v of every head of every layer, before the output projection mixes the heads; heads count from 1."""

    dim = "head"

    @property
    def labels(self) -> list[int]:
        """1 … heads."""
        return list(range(1, self.model.heads + 1))

    @property
    def width(self) -> int:
        """C, the channels of one head."""
        return head_width(self.model.blocks[-1])

    def title(self, place: int) -> str:
        """Its number."""
        return f"head {place + 1}"

    @contextmanager
    def probed(self, reduce: Callable[[int, Tensor], T]) -> Iterator[Callable[[Tensor], list[T]]]:
        """The heads of a layer from what its block is given."""

        def forward(images: Tensor) -> list[T]:
            results: dict[int, list[T]] = {}

            def see(layer: int, given: BlockInput) -> None:
                first = self.layers.index(layer) * len(self.labels)
                outputs = head_outputs(self.model.blocks[layer - 1], given)
                with torch.autocast(outputs.device.type, enabled=False):
                    results[layer] = [
                        _reduced(reduce, first + i, self.model.prefix_tokens, x)
                        for i, x in enumerate(outputs.unbind(1))
                    ]

            self.model.run_until(images, self.layers, see)
            return [result for layer in self.layers for result in results[layer]]

        yield forward


def _reduced(reduce: Callable[[int, Tensor], T], site: int, prefix: int, x: Tensor) -> T:
    return reduce(site, x[:, prefix:].float())
