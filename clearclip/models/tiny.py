"""The two models that come with the package: an open_clip CLIP and a timm DINO, trained on drawn scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from open_clip.model import CLIP
from timm.models import VisionTransformer

from clearclip import zoo
from clearclip.errors import UserError
from clearclip.models.backbone import Plan
from clearclip.models.open_clip import OpenClipBackbone
from clearclip.models.timm import TimmBackbone


def plan(name: str) -> Plan:
    """How a shipped model is made.

    Raises:
        UserError: no model of this name comes with the package.
    """
    if name not in PLANS:
        raise UserError(f"no model {name!r} comes with the package. There are: {', '.join(PLANS)}.")
    return PLANS[name]


@dataclass(repr=False)
class TinyClipBackbone(OpenClipBackbone):
    """`clip_tiny`, whose text tower knows only the words of drawn scenes: the embeddings of all others are zero."""

    @cached_property
    def tokenizer(self) -> Any:
        return zoo.tokenizer()

    def untrained(self, names: Sequence[str]) -> list[str]:
        known = (self.model.token_embedding.weight != 0).any(-1).cpu()  # (vocabulary,)
        return [name for name in names if not known[self.tokenizer([name])[0]].all()]


PLANS = {
    "clip_tiny": Plan(
        build=lambda trained: zoo.build_clip_tiny() if trained else CLIP(**zoo.CLIP_TINY),
        backbone=TinyClipBackbone,
        preprocessing=lambda model: dict(zoo.PREPROCESS),
        weights="clip_tiny, shipped, trained on drawn scenes",
        shipped=True,
    ),
    "dino_tiny": Plan(
        build=lambda trained: zoo.build_dino_tiny() if trained else VisionTransformer(**zoo.DINO_TINY),
        backbone=TimmBackbone,
        preprocessing=lambda model: zoo.TIMM_PREPROCESS,
        weights="dino_tiny, shipped, trained on drawn scenes",
        shipped=True,
    ),
}
