"""What stages and affinities with parameters have in common: what they need of a model, and the blocks they look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.written import Written


@dataclass(frozen=True, repr=False)
class Part(Written):
    """A part of a recipe. What it needs beside the trunk is said here, so that a model that lacks it is refused early."""

    needs_cls: ClassVar[bool] = False
    needs_guide: ClassVar[bool] = False  # a second model
    takes_regions: ClassVar[bool] = False  # a label for every pixel, if somebody gives some
    needs_truth: ClassVar[bool] = False  # the true label of every pixel

    def layers(self, depth: int) -> list[int]:
        """The blocks whose inputs it looks at, counted from 1, in a model of this depth."""
        return []

    def check(self, model: Backbone, guide: Backbone | None) -> None:
        """Refuse a model that cannot serve, with `UserError`."""
        if self.needs_cls and not model.prefix_tokens:
            raise UserError(f"{self} needs a CLS token, and {model.name} has none.")
        if self.needs_guide and guide is None:
            raise UserError(
                f'{self} needs a second model, such as --proxy dino_vitb8, or proxy=clearclip.load("dino_vitb8").'
            )
