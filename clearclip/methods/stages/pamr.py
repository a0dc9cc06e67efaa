"""Scores refined by the colors of the picture (PAMR; in SCLIP, NACLIP, ResCLIP, SC-CLIP, SFP and others)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods import pamr
from clearclip.methods.stages.stage import Merged, Picture
from clearclip.methods.windows import PatchLogits, columns_at_once

AT_ONCE = 2**23  # pixels that are refined at a time; each takes about 250 bytes with two dilations


@dataclass(frozen=True, repr=False)
class Pamr(Merged):
    """scores ← Σ w_n·scores_n over neighbors n of the same color, again and again, at the size of the picture itself.

    w is that of `clearclip.methods.pamr`. As in the methods' code, the merged scores and the normalized image are resized to
    the picture's own size first, bilinearly.

    Args:
        steps: how often.
        dilations: how far the neighbors are, in pixels.
    """

    steps: int = pamr.STEPS
    dilations: tuple[int, ...] = pamr.DILATIONS

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.dilations or min(self.dilations) < 1:
            raise UserError(f"{self!r}: steps is at least 0, and dilations are whole pixels, at least one.")

    def __call__(self, logits: PatchLogits, picture: Picture) -> PatchLogits:
        """Logits whose maps are refined when they are asked for."""
        image = _resized(picture.image[None], picture.size)
        return _Refined(
            logits.windows, picture.size, logits.patch, logits.norms, logits.kept, base=logits, image=image, stage=self
        )


@dataclass(frozen=True, kw_only=True)
class _Refined(PatchLogits):
    """Refined logits, of which a picture's image is all that is held, (1, 3, H, W).

    The weights are made anew for each group of names, which takes as long as to refine about five of them. A large picture
    is refined in bands of rows, which overlap by what can reach a pixel: the values are those of the whole.
    """

    base: PatchLogits
    image: Tensor
    stage: Pamr

    def maps(self, names: slice = slice(None)) -> Tensor:
        """The refined logits of some names at every pixel of the picture itself, (names, H, W), one name after another."""
        scores = _resized(self.base.maps(names)[None], self.size)
        result = scores if self.stage.steps == 0 else scores.new_empty(scores.shape)
        for rows, band in self._bands() if self.stage.steps else ():
            weights = pamr.pamr_weights(self.image[:, :, band], self.stage.dilations)
            inside = slice(rows.start - band.start, rows.stop - band.start)
            for i in range(scores.shape[1]):
                refined = pamr.refine(scores[:, i : i + 1, band], weights, self.stage.steps)
                result[:, i, rows] = refined[:, 0, inside]
        return result[0]

    def pixels(self, size: tuple[int, int], at_once: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Columns of the picture, and their refined logits, (columns, H, names); all of them are held meanwhile."""
        columns = _resized(self.maps()[None], size)[0].permute(2, 1, 0)  # (W, H, names)
        step = columns_at_once(columns[0].numel(), columns.device, at_once)
        for start in range(0, size[1], step):
            part = slice(start, min(start + step, size[1]))
            yield part, columns[part].contiguous()

    def _bands(self) -> Iterator[tuple[slice, slice]]:
        """Rows of the picture, and the same with those around them that have a say in their scores."""
        height, width = self.size
        around = self.stage.steps * max(self.stage.dilations)
        step = height if height * width <= AT_ONCE else max(AT_ONCE // width - 2 * around, around)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            yield slice(top, bottom), slice(max(0, top - around), min(height, bottom + around))


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (1, …, H', W') at another size, bilinearly."""
    return maps if tuple(maps.shape[-2:]) == size else F.interpolate(maps, size=size, mode="bilinear")
