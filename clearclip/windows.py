"""Sliding windows, as in the protocol of the published numbers: pictures → crops → one logit map a picture."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.vit import Backbone


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
    def of(cls, model: Backbone) -> "Windows":
        """The protocol's 448 pixels for models of 224 and more, twice the own size for smaller ones."""
        side = 448 if model.image_size >= 224 else 2 * model.image_size
        return cls(side, 2048 * side // 448, side, side // 2)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The size to which a picture of (height, width) is resized, its shape kept.

        >>> Windows().resized(375, 500), Windows().resized(100, 1000)
        ((448, 597), (205, 2048))
        """
        scale = min(self.short_side / min(height, width), self.long_side / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def boxes(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
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
    """Resize uint8 pictures (…, 3, H, W) bilinearly, without antialiasing, to whole pixel values, as the protocol does."""
    if tuple(pixels.shape[-2:]) == size:
        return pixels.float()
    scaled = F.interpolate(pixels[None].float(), size=size, mode="bilinear", align_corners=False)[0]
    return scaled.round().clamp(0, 255)


def logits_of_windows(
    pictures: list[Tensor],
    windows: Windows,
    patch: int,
    encode: Callable[[Tensor], dict[str, tuple[Tensor, tuple[int, int]]]],
    batch_size: int = 8,
) -> Iterator[dict[str, Tensor]]:
    """Cut normalised pictures (3, H, W) into windows, encode windows of all of them together, and join the logits.

    `encode` maps crops (B, 3, h, w), both sides multiples of `patch`, to logits (B, Q, rows · columns) and their grid, for
    each recipe. A crop whose side is no multiple of the patch is zero-padded evenly on both sides and cut back;
    overlapping logits are averaged.

    Yields for each picture, in order, the logits of each recipe (Q, H, W).
    """
    cuts = [(i, box) for i, picture in enumerate(pictures) for box in windows.boxes(*picture.shape[-2:])]
    shapes: dict[tuple[int, int], list[tuple[int, tuple[int, int, int, int]]]] = {}
    for i, box in cuts:  # windows of one shape go through the model together
        shapes.setdefault((box[2] - box[0], box[3] - box[1]), []).append((i, box))
    sums: list[dict[str, Tensor]] = [{} for _ in pictures]
    counts = [torch.zeros(picture.shape[-2:], device=picture.device) for picture in pictures]
    for (height, width), group in shapes.items():
        pad = _padding(height, width, patch)
        for start in range(0, len(group), batch_size):
            part = group[start : start + batch_size]
            crops = torch.stack([pictures[i][:, top:bottom, left:right] for i, (top, left, bottom, right) in part])
            for name, (logits, grid) in encode(F.pad(crops, pad)).items():
                maps = logits.unflatten(-1, grid)  # (B, Q, rows, columns)
                padded = (height + pad[2] + pad[3], width + pad[0] + pad[1])
                maps = F.interpolate(maps, size=padded, mode="bilinear", align_corners=False)
                maps = maps[..., pad[2] : pad[2] + height, pad[0] : pad[0] + width]
                for one, (i, (top, left, bottom, right)) in zip(maps, part, strict=True):
                    if name not in sums[i]:
                        sums[i][name] = one.new_zeros(len(one), *pictures[i].shape[-2:])
                    sums[i][name][:, top:bottom, left:right] += one
            for i, (top, left, bottom, right) in part:
                counts[i][top:bottom, left:right] += 1
    for total, count in zip(sums, counts, strict=True):
        yield {name: logits.div_(count) for name, logits in total.items()}


def _padding(height: int, width: int, patch: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom zeros that make both sides multiples of the patch."""
    missing_y, missing_x = -height % patch, -width % patch
    return missing_x // 2, missing_x - missing_x // 2, missing_y // 2, missing_y - missing_y // 2
