"""Sliding windows, as in the protocol of the published numbers: pictures → crops → the logits of one picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.enlargement import Enlargement, Stretch, enlargement, middles, padding
from clearclip.models.backbone import Backbone

T = TypeVar("T")

AT_ONCE = {"cpu": 2**18}  # cosines at pixels that are made at a time: a CPU is fastest within its cache, …
AT_ONCE_ELSEWHERE = 2**25  # … an accelerator with fewer, larger steps
LARGE = 2**24  # pixels of a picture whose colors are resized one after another
TALL = 2**24  # cosines at all rows of pixels and columns of patches that are kept while a picture is enlarged


@dataclass(frozen=True)
class Windows:
    """How a picture is resized and cut: sizes in pixels (paper §4 of the protocol: 448, 2048, 448, 224)."""

    short_side: int = 448  # the picture is resized to this short side …
    long_side: int = 2048  # … unless its long side would exceed this
    crop: int = 448
    stride: int = 224

    def __post_init__(self) -> None:
        if min(self.short_side, self.long_side, self.crop, self.stride) < 1 or self.stride > self.crop:
            raise UserError(f"{self}: all sizes are at least 1, and the stride is at most the crop.")

    @classmethod
    def of(cls, model: Backbone) -> Windows:
        """The protocol's 448 pixels for models of 224 and more, twice the own size for smaller ones."""
        return cls.of_side(448 if model.image_size >= 224 else 2 * model.image_size)

    @classmethod
    def of_side(cls, side: int) -> Windows:
        """The protocol's sizes in proportion to another short side, which is also the window."""
        return cls(side, 2048 * side // 448, side, side // 2)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The size to which a picture of (height, width) is resized, its shape kept.

        >>> Windows().resized(375, 500), Windows().resized(100, 1000)
        ((448, 597), (205, 2048))
        """
        scale = min(self.short_side / min(height, width), self.long_side / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def boxes(self, height: int, width: int) -> list[Box]:
        """Top, left, bottom, right of every window; the last of a row or column is clamped to the border.

        >>> Windows().boxes(448, 597)
        [(0, 0, 448, 448), (0, 149, 448, 597)]
        """
        return [
            (y, x, min(y + self.crop, height), min(x + self.crop, width))
            for y in self._starts(height)
            for x in self._starts(width)
        ]

    def _starts(self, side: int) -> list[int]:
        count = max(side - self.crop + self.stride - 1, 0) // self.stride + 1
        return [max(min(i * self.stride, side - self.crop), 0) for i in range(count)]


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a uint8 picture (3, H, W) bilinearly, without antialiasing, to whole pixel values, as the protocol does."""
    if tuple(pixels.shape[-2:]) == size:
        return pixels.float()
    parts = pixels.split(1) if pixels.shape[1] * pixels.shape[2] > LARGE else [pixels]  # floats take four times as much
    scaled = [F.interpolate(part[None].float(), size=size, mode="bilinear", align_corners=False)[0] for part in parts]
    return torch.cat(scaled).round_().clamp_(0, 255)


Box = tuple[int, int, int, int]  # top, left, bottom, right


class Encoded(NamedTuple):
    """What one recipe makes of a batch of crops."""

    logits: Tensor  # (B, Q, rows · columns)
    grid: tuple[int, int]
    norms: Tensor | None = None  # (B, 2), of X_res and X_attn, where they are asked for
    kept: Tensor | None = None  # (B, K, rows, columns), what a stage wants of every window once the picture is complete


@dataclass(frozen=True)
class PatchLogits:
    """Cosines of every name at the patches of a picture's windows, from which maps of single names are made when needed.

    ``windows`` are boxes of the resized picture, row by row of a grid of them, and their logits (Q, rows, columns); ``size`` is the
    resized picture's.
    ``norms`` (windows, 2) are those of X_res and X_attn, None unless asked for; ``kept`` (windows, K, rows, columns) is what a
    stage of the recipe wants to have of each window.
    """

    windows: list[tuple[Box, Tensor]]
    size: tuple[int, int]
    patch: int
    norms: Tensor | None = None
    kept: list[Tensor] | None = None

    def __len__(self) -> int:
        """How many names there are."""
        return len(self.windows[0][1])

    @property
    def finite(self) -> Tensor:
        """Whether all values are finite, () bool, on the device."""
        return torch.stack([logits.isfinite().all() for _, logits in self.windows]).all()

    def maps(self, names: slice = slice(None)) -> Tensor:
        """The logits of some names at every pixel of the resized picture, (names, H', W'), averaged where windows overlap."""
        enlarged = [(box, self._enlarged(box, logits[names])) for box, logits in self.windows]
        if len(enlarged) == 1:
            return enlarged[0][1]
        total = enlarged[0][1].new_zeros(len(enlarged[0][1]), *self.size)
        for (top, left, bottom, right), values in enlarged:
            total[:, top:bottom, left:right] += values
        return total.div_(self._counts)

    def pixels(self, size: tuple[int, int], at_once: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Columns of a picture of this size from left to right, and their cosines, (columns, H, names).

        They are `maps`, resized bilinearly to the picture's own size, but for the rounding of the last digit: both
        enlargements and the mean between them are one product with a matrix for each side, of which a pixel needs a few patches.

        Args:
            size: of the picture, (H, W).
            at_once: about how many values are made at a time; one column at least.
        """
        down, across = self._enlargements(size)
        device, column = self.windows[0][1].device, size[0] * len(self)
        patches = self._patches(down, across)  # (columns of patches, rows of patches, names)
        tall = down.weights @ patches if column * len(patches) <= TALL else None  # (columns of patches, H, names)
        step = columns_at_once(column, device, at_once)
        for start in range(0, size[1], step):
            part = slice(start, min(start + step, size[1]))
            among = across.patches(part)
            here = down.weights @ patches[among] if tall is None else tall[among]
            yield part, (across.weights[part, among] @ here.flatten(1)).unflatten(1, (size[0], len(self)))

    def _enlargements(self, size: tuple[int, int]) -> tuple[Enlargement, Enlargement]:
        """How patches become pixels of a picture of this size, along its height and along its width."""
        down = dict.fromkeys(Stretch(box[0], box[2], logits.shape[-2]) for box, logits in self.windows)
        across = dict.fromkeys(Stretch(box[1], box[3], logits.shape[-1]) for box, logits in self.windows)
        device, grid = self.windows[0][1].device, [(y.start, x.start, y.end, x.end) for y in down for x in across]
        if [box for box, _ in self.windows] != grid:
            raise ValueError(f"windows {[box for box, _ in self.windows]} are not a grid, row by row")
        return (
            enlargement(tuple(down), self.size[0], self.patch, size[0], device),
            enlargement(tuple(across), self.size[1], self.patch, size[1], device),
        )

    def _patches(self, down: Enlargement, across: Enlargement) -> Tensor:
        """The logits of all windows in the order of the enlargements, (columns of patches, rows of patches, names)."""
        bands: dict[int, list[Tensor]] = {}
        for (top, _, _, _), logits in self.windows:
            bands.setdefault(top, []).append(logits)
        whole = torch.cat([torch.cat(band, 2) for band in bands.values()], 1)  # (names, rows, columns)
        ordered = whole[:, down.order][..., across.order]
        return ordered.permute(2, 1, 0).contiguous()

    def _enlarged(self, box: Box, logits: Tensor) -> Tensor:
        height, width = box[2] - box[0], box[3] - box[1]
        left, right, above, below = _padding(height, width, self.patch)
        padded = (height + above + below, width + left + right)
        values = F.interpolate(logits[None], size=padded, mode="bilinear", align_corners=False)[0]
        return values[:, above : above + height, left : left + width]

    def padded(self, box: Box) -> Box:
        """A window with the zeros around it that make both sides multiples of the patch."""
        top, left, bottom, right = box
        before, after, above, below = _padding(bottom - top, right - left, self.patch)
        return top - above, left - before, bottom + below, right + after

    def centers(self, window: int) -> tuple[Tensor, Tensor]:
        """Where the centers of a window's patches lie in the resized picture, in pixels: of rows (rows,), of columns (columns,)."""
        box, logits = self.windows[window]
        top, left, bottom, right = self.padded(box)
        return (
            middles(logits.shape[-2], top, bottom, logits.device),
            middles(logits.shape[-1], left, right, logits.device),
        )

    @cached_property
    def _counts(self) -> Tensor:
        counts = self.windows[0][1].new_zeros(self.size)
        for (top, left, bottom, right), _ in self.windows:
            counts[top:bottom, left:right] += 1
        return counts


def logits_of_windows(
    pictures: list[Tensor],
    windows: Windows,
    patch: int,
    encode: Callable[[Tensor, dict[str, Tensor]], dict[str, Encoded]],
    batch_size: int = 8,
    labels: Mapping[str, list[Tensor]] | None = None,
) -> Iterator[dict[str, PatchLogits]]:
    """Cut normalised pictures (3, H, W) into windows and encode windows of all of them together.

    `encode` maps crops (B, 3, h, w), both sides multiples of `patch`, and their part of every kind of `labels` (H, W), such as
    "regions", to logits for each recipe. A crop whose side is no multiple of the patch is zero-padded evenly on both sides,
    which is cut back from its map; labels there are those of the nearest pixel.

    Yields for each picture, in order, the logits of each recipe.
    """
    boxes = [windows.boxes(*picture.shape[-2:]) for picture in pictures]
    shapes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, several in enumerate(boxes):  # windows of one shape go through the model together
        for j, box in enumerate(several):
            shapes.setdefault((box[2] - box[0], box[3] - box[1]), []).append((i, j))
    seen: dict[tuple[int, int], dict[str, Encoded]] = {}
    for (height, width), group in shapes.items():
        pad = _padding(height, width, patch)
        for start in range(0, len(group), batch_size):
            part = group[start : start + batch_size]
            crops = F.pad(_cut(pictures, boxes, part, (height, width)), pad)
            beside = {kind: _cut(maps, boxes, part, (height, width)) for kind, maps in (labels or {}).items()}
            beside = {kind: F.pad(maps.double(), pad, mode="replicate").long() for kind, maps in beside.items()}
            for name, encoded in encode(crops, beside).items():
                for which, place in enumerate(part):
                    seen.setdefault(place, {})[name] = _of_one(encoded, which)
    for i, (picture, several) in enumerate(zip(pictures, boxes, strict=True)):
        yield {
            name: PatchLogits(
                [(box, seen[i, j][name].logits) for j, box in enumerate(several)],
                (picture.shape[-2], picture.shape[-1]),
                patch,
                _all([seen[i, j][name].norms for j in range(len(several))], torch.stack),
                _all([seen[i, j][name].kept for j in range(len(several))], list),
            )
            for name in seen[i, 0]
        }


def _cut(images: list[Tensor], boxes: list[list[Box]], places: list[tuple[int, int]], size: tuple[int, int]) -> Tensor:
    """Windows of one size out of several images, (B, …, height, width)."""
    height, width = size
    return torch.stack([images[i][..., boxes[i][j][0] :, boxes[i][j][1] :][..., :height, :width] for i, j in places])


def _of_one(encoded: Encoded, which: int) -> Encoded:
    """One window of a batch, its logits (Q, rows, columns)."""
    return Encoded(
        encoded.logits[which].unflatten(-1, encoded.grid),
        encoded.grid,
        None if encoded.norms is None else encoded.norms[which],
        None if encoded.kept is None else encoded.kept[which],
    )


def _all(parts: list[Tensor | None], join: Callable[[list[Tensor]], T]) -> T | None:
    """The parts of all windows together, None where there are none."""
    there = [part for part in parts if part is not None]
    return join(there) if there else None


def columns_at_once(values: int, device: torch.device, at_once: int | None = None) -> int:
    """How many columns of so many values are made at a time: one at least."""
    return max(1, (at_once or AT_ONCE.get(device.type, AT_ONCE_ELSEWHERE)) // values)


def _padding(height: int, width: int, patch: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom zeros that make both sides multiples of the patch."""
    return (*padding(width, patch), *padding(height, patch))
