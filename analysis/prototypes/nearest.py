"""Class prototypes: what the patches of a class have in common, and which class is nearest to a patch."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIMILARITIES = ("cosine", "standardised")
CONSTANT = 1e-12  # a channel whose variance is a smaller share of its mean square holds nothing but rounding


class Moments(NamedTuple):
    """Sums over the labelled patches of one map."""

    sums: Tensor  # (C, D), Σ share · feature of every class
    squares: Tensor  # (D,), Σ share · feature² of all classes together


class Prototypes(NamedTuple):
    """What is needed to compare a patch with every class, of one map or, with dimensions in front, of many."""

    seen: np.ndarray  # (S,), indices of the classes that have a prototype
    mean: np.ndarray  # (…, D)
    scale: np.ndarray  # (…, D), 1 / standard deviation, 0 for a constant channel
    vectors: np.ndarray  # (…, similarities, S, D), of length 1


def class_shares(label: Tensor, grid: tuple[int, int], classes: int) -> Tensor:
    """How much of each patch every class covers, from a label map (H, W), as (C, rows · columns) in [0, 1].

    Pixels count by the area that lies in the patch. Pixels of no class (ignored ones) leave a share that belongs to nobody.

    >>> class_shares(torch.tensor([[0, 0, 1, 255]]), (1, 2), 2).tolist()
    [[1.0, 0.0], [0.0, 0.5]]
    """
    rows, columns = (
        _overlap(cells, size).to(label.device) for cells, size in zip(grid, label.shape, strict=True)
    )  # (rows, H), (columns, W)
    shares = torch.zeros(classes, *grid, device=label.device)
    for index in label.unique().tolist():
        if 0 <= index < classes:
            shares[index] = rows @ (label == index).float() @ columns.mT
    return shares.flatten(1)


def _overlap(cells: int, size: int) -> Tensor:
    """The share of each of `cells` equal parts of a line that each of its `size` pixels fills, (cells, size)."""
    edges = np.arange(cells + 1)[:, None] * (size / cells)
    covered = np.clip(edges - np.arange(size), 0, 1)  # of each pixel, left of each edge
    return torch.from_numpy(np.diff(covered, axis=0) * (cells / size)).float()


def moments(patches: Tensor, shares: Tensor) -> Moments:
    """Sums over the patches (B, N, D) of some pictures, weighted by the classes' shares (B, C, N).

    In float64, in float32 on devices that have no other.
    """
    wide = torch.float32 if patches.device.type == "mps" else torch.float64
    x, weights = patches.to(wide), shares.to(wide)
    return Moments((weights @ x).sum(0), (weights.sum(1, keepdim=True) @ x.square()).sum((0, 1)))


def prototypes(weights: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> Prototypes:
    """Prototypes from sums over patches: weights (C,), sums (…, C, D), squares (…, D).

    The prototype of a class is its mean feature. For "standardised", features and prototypes have, channel by channel, the
    mean of all labelled patches taken away and are divided by their standard deviation; a constant channel becomes 0.
    """
    seen = np.flatnonzero(weights)
    total = weights.sum()
    raw = sums[..., seen, :] / weights[seen, None]  # (…, S, D)
    mean = sums.sum(-2) / total
    variance = squares / total - mean**2
    lively = variance > CONSTANT * squares / total
    scale = np.divide(
        1, np.sqrt(variance, where=lively, out=np.ones_like(variance)), where=lively, out=np.zeros_like(mean)
    )
    both = np.stack([raw, (raw - mean[..., None, :]) * scale[..., None, :]], -3)
    length = np.linalg.norm(both, axis=-1, keepdims=True)
    vectors = np.divide(both, length, where=length > 0, out=np.zeros_like(both))
    return Prototypes(seen, *(part.astype(np.float32) for part in (mean, scale, vectors)))


def similarities(patches: Tensor, mean: Tensor, scale: Tensor, vectors: Tensor) -> Tensor:
    """Cosines of patches (B, N, D) with prototypes (similarities, S, D), as (B, similarities, S, N)."""
    x = torch.stack([patches, (patches - mean) * scale], 1)  # (B, similarities, N, D)
    return vectors @ F.normalize(x, dim=-1).mT


def nearest(cosines: Tensor, size: tuple[int, int], owner: Tensor) -> Tensor:
    """The class of the most similar prototype at every pixel: (B, S, rows, columns), of `size` (H, W) → (B, H, W) int64.

    Similarities are resized bilinearly to the pictures' own size, one prototype after another, and a running maximum gives
    the argmax of all of them to the last pixel; `owner` (S,) holds the prototypes' classes.

    >>> nearest(torch.tensor([[[[0.9, 0.1]], [[0.2, 0.8]]]]), (1, 4), torch.tensor([3, 7])).tolist()
    [[[3, 3, 7, 7]]]
    """
    best = torch.full((len(cosines), 1, *size), -torch.inf, device=cosines.device)
    labels = torch.zeros_like(best, dtype=torch.int64)
    for similarity, index in zip(cosines.split(1, 1), owner, strict=True):
        resized = F.interpolate(similarity, size, mode="bilinear", align_corners=False)
        labels.masked_fill_(resized > best, index)
        torch.maximum(best, resized, out=best)
    return labels[:, 0]
