"""Patch features small enough for a page: a few coordinates whose products are nearly the cosines."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F

from analysis.explorer.passes import Pass
from clearclip.models.block import FEATURES

COORDINATES = (128, 96, 64, 48, 32, 24, 16)


class Site(NamedTuple):
    """One map: whole numbers −127 … 127 (N, k), and what each column is multiplied with (k,)."""

    numbers: np.ndarray
    scales: np.ndarray

    def cosines(self) -> np.ndarray:
        """What a page makes of it: products of the rows, and 1 for a patch with itself, (N, N)."""
        rows = self.numbers * self.scales
        products = rows @ rows.T
        np.fill_diagonal(products, 1)
        return products


class Compressed(NamedTuple):
    """All maps of a pass, layer by layer, and how far their cosines are from the true ones."""

    sites: list[Site]
    largest: float
    mean: float


def packed(sites: Sequence[Site]) -> bytes:
    """The numbers of all sites behind one another, compressed with gzip."""
    return gzip.compress(b"".join(site.numbers.tobytes() for site in sites), 9, mtime=0)


def compress(vectors: Sequence[np.ndarray], most: int) -> Compressed:
    """The leading coordinates of unit vectors: of all with so many, those whose products are nearest to the cosines.

    Args:
        vectors: the patches of each map at length 1, (N, D).
        most: bytes that they may take once they are written as text (base64).

    >>> small = compress([np.eye(4)[[0, 0, 1, 2]]], 1000)
    >>> small.sites[0].numbers.shape, small.largest < 0.01
    ((4, 4), True)
    """
    rotated = [u @ np.linalg.eigh(u.T @ u)[1][:, ::-1] for u in vectors]  # largest coordinates first
    for coordinates in COORDINATES:
        sites = [_rounded(rows[:, :coordinates]) for rows in rotated]
        if 4 / 3 * len(packed(sites)) <= most:
            break
    errors = [np.abs(site.cosines() - (u @ u.T)) for site, u in zip(sites, vectors, strict=True)]
    return Compressed(sites, float(max(error.max() for error in errors)), float(np.mean([e.mean() for e in errors])))


def _rounded(rows: np.ndarray) -> Site:
    scales = np.abs(rows).max(0) / 127
    scales[scales == 0] = 1
    return Site(np.round(rows / scales).astype(np.int8), scales)


def of_pass(seen: Pass, most: int) -> Compressed:
    """All maps of a pass in so many bytes of text."""
    sites = ((layer, feature) for layer in seen.model.layers() for feature in FEATURES)
    return compress([F.normalize(seen.patches(*site), dim=-1).cpu().numpy() for site in sites], most)
