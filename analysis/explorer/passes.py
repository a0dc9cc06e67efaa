"""Pass: what one model makes of one picture, from one run of its trunk; everything that is shown is read from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from analysis.probes.probe import Probe
from clearclip.methods.passes import Passes
from clearclip.models.backbone import Backbone, BlockInput
from clearclip.models.block import FEATURES
from clearclip.models.finite import feature_sites, require_finite

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Pass:
    """What one model makes of one picture; made by `run`, and not to be changed, as several visitors may look at it.

    Args:
        model: the model.
        picture: the square that it sees, RGB.
        maps: every feature map with all tokens, (L, D) by layer and feature.
        inputs: the input of every block, for attention.
        passes: the same inputs, for recipes.
    """

    model: Backbone
    picture: Image.Image
    maps: dict[tuple[int, str], Tensor]
    inputs: dict[int, BlockInput]
    passes: Passes
    _kept: dict[Hashable, object] = field(default_factory=dict, repr=False)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.model.grid(self.picture.height)

    def patches(self, layer: int, feature: str) -> Tensor:
        """One map without the tokens that stand before the patches, (N, D)."""
        return self.maps[layer, feature][self.model.prefix_tokens :]

    def patch(self, at: tuple[float, float]) -> tuple[int, int]:
        """Row and column of the patch at a point, which is given as shares of height and width in [0, 1)."""
        rows, columns = self.grid
        return int(at[0] * rows), int(at[1] * columns)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """A value that is computed when it is asked for the first time."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]  # type: ignore[return-value]

    def latest(self, name: str, key: Hashable, compute: Callable[[], T]) -> T:
        """A value of this name for the last key that was asked for; values for other keys are not kept."""
        if self._kept.get((name, "key")) != key:
            self._kept[name, "value"] = compute()
            self._kept[name, "key"] = key
        return self._kept[name, "value"]  # type: ignore[return-value]

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return sum(x.nbytes for x in self.maps.values())


def run(model: Backbone, picture: Image.Image) -> Pass:
    """Run the trunk once and keep X_res, X_attn and X_sum of all blocks.

    Args:
        model: any.
        picture: a square whose side is a multiple of the patch size, so that the model sees just these pixels.

    Raises:
        UserError: the side does not fit the model, or a map is not finite.

    >>> import clearclip
    >>> seen = run(clearclip.load("dino_tiny", device="cpu"), Image.new("RGB", (64, 64)))
    >>> seen.grid, seen.patches(6, "X_sum").shape
    ((8, 8), torch.Size([64, 96]))
    """
    passes = Passes(most=3)  # of the picture itself, with positions resized otherwise, and of a second model
    model.grid(picture.height)
    image = model.transform(picture.height)(picture)[None].to(model.device)  # (1, 3, S, S)
    probe: Probe[Tensor] = Probe(model, keep=True)
    with torch.inference_mode(), probe:
        inputs = passes.block_inputs(model, image)
        with model.autocast():  # the pass ends before the last block, whose maps are wanted, too
            model.blocks[-1].forward(inputs[model.depth].x, inputs[model.depth].rope)
        maps = probe.results()
    finite = torch.stack([x.isfinite().all() for x in maps.values()])[None]
    require_finite(finite, ["this picture"], feature_sites(model.layers(), FEATURES), model)
    return Pass(model, picture, {site: x[0].float() for site, x in maps.items()}, inputs, passes)
