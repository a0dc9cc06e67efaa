"""Which architecture the tensors of an image tower have, and which named models are like it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from clearclip.models.names import ALIASES

SIZES = {"s": (384, 12), "b": (768, 12), "l": (1024, 24), "h": (1280, 32), "g": (1536, 40)}  # width, depth
KERNEL = re.compile(r"(visual\.(?:trunk\.)?|)(?:patch_embed\.proj|conv1)\.weight")


class Likeness(NamedTuple):
    """The measures of an image tower.

    Args:
        family: clip (open_clip's own tower), trunk (one of timm in open_clip), dinov2 or dino, as far as keys tell.
        width: of the residual stream, D.
        depth: number of blocks.
        patch: side of a patch in pixels.
        grid: rows and columns of learned positions, 0 if there are none.
    """

    family: str
    width: int
    depth: int
    patch: int
    grid: int

    def __str__(self) -> str:
        positions = f", positions for {self.grid} × {self.grid} patches" if self.grid else ""
        return f"width {self.width}, {self.depth} blocks, patches of {self.patch} pixels{positions}"

    @property
    def names(self) -> list[str]:
        """The short names of models with these measures.

        >>> Likeness("dino", 768, 12, 8, 28).names, Likeness("clip", 1024, 24, 14, 24).names
        (['dino_vitb8'], ['clip_vitl14_336'])
        """
        return [alias for alias in ALIASES if self._fits(alias)]

    def _fits(self, alias: str) -> bool:
        size = re.search(r"_vit([a-z])(\d+)(?:_(\d+))?", alias)
        if size is None or SIZES.get(size[1]) != (self.width, self.depth) or int(size[2]) != self.patch:
            return False
        if (size[3] == "336") != (self.grid * self.patch == 336):
            return False
        if self.family in ("clip", "trunk"):
            trunk = alias.startswith(("siglip", "eva"))
            return ALIASES[alias].startswith("open_clip:") and trunk == (self.family == "trunk")
        family = "dinov3" if self.grid == 0 else self.family  # whose positions are rotary
        return ALIASES[alias].startswith("timm:") and family == (alias[:6] if alias.startswith("dinov") else "dino")


def likeness(state: Mapping[str, Tensor]) -> Likeness | None:
    """What the shapes of an image tower tell, in the layout of OpenAI, timm or open_clip; None for another.

    >>> import clearclip
    >>> print(likeness(clearclip.load("dino_vits16", random=True).model.state_dict()))
    width 384, 12 blocks, patches of 16 pixels, positions for 14 × 14 patches
    """
    match = next((match for match in map(KERNEL.fullmatch, state) if match), None)
    if match is None or state[match[0]].ndim != 4:
        return None
    kernel, tower = state[match[0]], match[1]
    blocks = [re.match(rf"{re.escape(tower)}(?:transformer\.res)?blocks\.(\d+)\.", key) for key in state]
    positions = next(
        (state[f"{tower}{key}"] for key in ("pos_embed", "positional_embedding") if f"{tower}{key}" in state), None
    )
    grid = 0 if positions is None or positions.ndim < 2 else math.isqrt(positions.shape[-2])
    layer_scale = any(key.endswith("ls1.gamma") for key in state)
    family = {"visual.": "clip", "visual.trunk.": "trunk"}.get(tower, "dinov2" if layer_scale else "dino")
    depth = 1 + max((int(block[1]) for block in blocks if block), default=-1)
    return Likeness(family, kernel.shape[0], depth, kernel.shape[-1], grid)
