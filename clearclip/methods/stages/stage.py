"""What a stage of a recipe is: one step beside the last block's own knobs, in one of six places.

A stage is a frozen dataclass of a few fields, its formula above its code: parameters at construction, data at call. It is
written down as its own repr, such as `Aggregate(layer=9, cut=0.4)`, and read back by `clearclip.written.read`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.part import Part
from clearclip.methods.trunk import Attended, Guide, Tokens, Trunk
from clearclip.methods.windows import PatchLogits
from clearclip.models.backbone import Backbone


@dataclass(frozen=True, repr=False)
class Stage(Part, ABC):
    """One step of a recipe."""

    alone: ClassVar[bool] = False  # leaves the CLS out of the last block
    needs_texts: ClassVar[bool] = False  # the names that are asked for
    needs_embedding: ClassVar[bool] = False  # the image embedding of the untouched model
    needs_empty: ClassVar[bool] = False  # what the prompts say without any name, where one name is asked for alone


class Before(Stage):
    """Changes the tokens before the last block."""

    @abstractmethod
    def __call__(self, tokens: Tokens) -> Tokens:
        """The tokens that the last block is given instead."""


class Beside(Stage):
    """Adds something to what the last block gives out, with a weight of its own behind the final norm."""

    weight: float = 1.0

    def joins_normed(self) -> bool:
        """Whether both go through the final norm before they are added."""
        return False

    @abstractmethod
    def __call__(self, tokens: Tokens, attend: Callable[[Attended], Tensor]) -> tuple[Tensor, Tensor | None]:
        """What is added, with as many tokens as the recipe's Proj(A·v), (B, L', D), and the CLS that belongs to it, (B, 1, D).

        Args:
            tokens: what the last block is given.
            attend: the recipe's own Proj(A·v) for q, k and v, (B, L', D).
        """


class After(Stage):
    """Changes what the last block gives out, before the final norm."""

    @abstractmethod
    def __call__(self, x: Tensor, cls: Tensor, tokens: Tokens) -> Tensor:
        """Other patches, (B, N, D).

        Args:
            x: the last block's output at the patches, (B, N, D).
            cls: the CLS token that the last block was given, (B, 1, D); of another input stream its own.
            tokens: what the last block is given.
        """


class Scoring(Stage):
    """Changes the scores of the names in one crop."""

    needs_texts: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, scores: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        """Other scores, (B, Q, N).

        Args:
            scores: the cosines of names and patches, (B, Q, N).
            features: the patches in the text space, (B, N, E).
            trunk: the crop's pass.
        """


class Picture(NamedTuple):
    """A whole picture, as stages see it once its windows are done.

    Args:
        image: at the windows' size, normalized for the model, (3, H', W').
        size: height and width of the picture itself, in pixels.
        model: the CLIP.
        guide: the second model, None without one.
        texts: one L2-normalized row per name, (Q, E).
        owner: the class of each name, (Q,).
    """

    image: Tensor
    size: tuple[int, int]
    model: Backbone
    guide: Backbone | None
    texts: Tensor
    owner: Tensor

    @property
    def second(self) -> Guide:
        """The second model's view of the picture; raises `UserError` without one."""
        if self.guide is None:
            raise UserError('stages that look at a second model need one: proxy=clearclip.load("dino_vitb16").')
        return Guide(self.guide, self.image[None], self.model)


class Merged(Stage):
    """Changes what all windows of a picture gave together."""

    # wants something of each crop, and is then the first stage after the windows are merged
    keeps: ClassVar[bool] = False
    anew: ClassVar[bool] = False  # scores are made anew, from features of the whole picture

    def keep(self, x: Tensor, trunk: Trunk) -> Tensor | None:
        """What it wants to have of each crop, beside the logits, when the picture is complete: (B, K, rows, columns).

        Args:
            x: the patches before the final norm, (B, N, D).
            trunk: the crop's pass.
        """
        return None

    @abstractmethod
    def __call__(self, logits: PatchLogits, picture: Picture) -> PatchLogits:
        """Other logits of the picture."""


class Labeling(Stage):
    """Changes the labels of a whole picture at its own size."""

    @abstractmethod
    def __call__(self, labels: NDArray[np.integer], regions: NDArray[np.integer] | None) -> NDArray[np.integer]:
        """Other labels, (H, W).

        Args:
            labels: the class of every pixel, (H, W), pixels below the threshold being background already.
            regions: the region of every pixel, (H, W), None unless somebody gave some.
        """
