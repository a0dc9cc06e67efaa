"""The scores of every class at every pixel, made in pieces, so that memory does not grow with pixels × classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.windows import PatchLogits
from clearclip.segmentation.labelling import TEMPERATURE, best_score, class_scores, highest

AT_ONCE = 2**21  # values of a piece: 8 MiB, of which a few copies exist at a time
WHOLE = 2**30  # values that are given as one array at most: 4 GiB


@dataclass(frozen=True)
class ScoreMaps:
    """Class scores in [0, 1], (C, H, W), of one picture, which are made from its patches whenever they are asked for.

    A score is the softmax over all names, of each class its best name. What is held is small; what is made at a time is a
    few columns of the picture, whatever its size and the number of classes.

    Args:
        logits: cosines of every name at the picture's patches.
        size: height and width of the picture.
        owner: the class that each name belongs to, (Q,).
        classes: how many classes there are.

    >>> logits = PatchLogits([((0, 0, 2, 2), torch.tensor([[[0.1, 0.3]], [[0.2, 0.2]]]))], (2, 2), 1)
    >>> ScoreMaps(logits, (1, 4), torch.tensor([0, 1]), 2).labels()[0]
    array([[1, 1, 0, 0]], dtype=uint8)
    """

    logits: PatchLogits
    size: tuple[int, int]
    owner: Tensor
    classes: int

    @torch.inference_mode()
    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Columns of the picture from left to right, and their scores (columns, H, C) float32, on the device."""
        for columns, cosines in self.logits.pixels(self.size, AT_ONCE):
            yield columns, class_scores(cosines.mul_(TEMPERATURE), self.owner, self.classes)

    @torch.inference_mode()
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """The class of the highest score at every pixel, (H, W) uint8 or uint16, and that score, (H, W) float32."""
        labels = np.empty(self.size, np.uint8 if self.classes <= 256 else np.uint16)
        best = np.empty(self.size, np.float32)
        for columns, cosines in self.logits.pixels(self.size, AT_ONCE):
            labels[:, columns] = self.owner[highest(cosines)].T.cpu().numpy()
            best[:, columns] = best_score(cosines).T.cpu().numpy()
        return labels, best

    def of(self, index: int) -> np.ndarray:
        """The scores of one class, (H, W) float32."""
        score = np.empty(self.size, np.float32)
        for columns, scores in self.pieces():
            score[:, columns] = scores[..., index].T.cpu().numpy()
        return score

    def whole(self) -> np.ndarray:
        """All scores, (C, H, W) float32; raises `UserError` beyond 4 GiB."""
        shape = (self.classes, *self.size)
        if math.prod(shape) > WHOLE:
            raise UserError(
                f"scores of {shape[0]} classes at {shape[2]}×{shape[1]} pixels are {4 * math.prod(shape) / 1e9:.1f} GB, more "
                f"than {4 * WHOLE / 1e9:.1f} GB: take those of one class, result.score(name), or result.save(folder, name)."
            )
        whole = np.empty(shape, np.float32)
        for columns, scores in self.pieces():
            whole[:, :, columns] = scores.permute(2, 1, 0).cpu().numpy()
        return whole

    def write(self, file: IO[bytes]) -> None:
        """Write all scores as an array of .npy, (C, H, W) float16, in Fortran's order, in which pieces follow each other."""
        header = {"descr": "<f2", "fortran_order": True, "shape": (self.classes, *self.size)}
        np.lib.format.write_array_header_1_0(file, header)
        for _, scores in self.pieces():
            file.write(scores.cpu().numpy().astype("<f2").tobytes())
