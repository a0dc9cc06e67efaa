"""What is shown of a pass, as plain arrays over its patches; each number is that of the library's own function."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from analysis.explorer.passes import Pass
from analysis.plots.pca_maps import colors
from analysis.probes.attention import AFFINITIES, attended
from analysis.probes.components import Moments
from analysis.probes.similarity import patch_similarity
from analysis.probes.statistics import STATISTICS, token_norms
from clearclip.models.block import FEATURES

CURVES = ("entropy", "maximum")  # of paper Fig. 4
Point = tuple[float, float]  # shares of height and width in [0, 1)


def similarity(seen: Pass, layer: int, feature: str, at: Point) -> np.ndarray:
    """Cosine of the patch at a point with every patch, (rows, columns) in [−1, 1]."""
    row, column = seen.patch(at)
    values = patch_similarity(seen.maps[layer, feature][None], row * seen.grid[1] + column, seen.model.prefix_tokens)
    return values.view(seen.grid).cpu().numpy()


def token_norm(seen: Pass, layer: int, feature: str) -> np.ndarray:
    """The length of every patch's vector, (rows, columns)."""
    return token_norms(seen.patches(layer, feature)).view(seen.grid).cpu().numpy()


def pca_colors(seen: Pass, layer: int, feature: str) -> np.ndarray:
    """The first three principal components of the picture's patches as red, green and blue, (rows, columns, 3) in [0, 1]."""

    def compute() -> np.ndarray:
        x, moments = seen.patches(layer, feature).cpu().double().numpy(), Moments()
        moments.add(x)
        scores = moments.components(min(3, moments.most))(x).reshape(1, *seen.grid, -1)
        return colors(xr.DataArray(scores, dims=("image", "row", "column", "component")))[0]

    return seen.once(("pca", layer, feature), compute)


@torch.inference_mode()
def attention(seen: Pass, layer: int, at: Point, head: int = 0) -> dict[str, np.ndarray]:
    """Where the patch at a point looks, for q-k, q-q, k-k and v-v, each (rows, columns) with a sum of at most 1.

    Args:
        head: counted from 1; 0 for the mean over all heads.
    """
    row, column = seen.patch(at)
    first, block = seen.model.prefix_tokens, seen.model.blocks[layer - 1]
    token = first + row * seen.grid[1] + column
    heads = slice(None) if head == 0 else slice(head - 1, head)
    with seen.model.autocast():
        q, k, v = block.qkv(block.norm1(seen.inputs[layer].x), seen.inputs[layer].rope)
    parts, maps = {"q": q[:, heads], "k": k[:, heads], "v": v[:, heads]}, {}
    for name in AFFINITIES:
        weights = attended(parts[name[0]][:, :, token : token + 1], parts[name[1]])  # (1, heads, 1, L)
        maps[name] = weights[0, :, 0, first:].mean(0).view(seen.grid).cpu().numpy()
    return maps


def curves(seen: Pass) -> xr.Dataset:
    """Entropy and maximum of the patches of every map (paper Figs. 4a and 4b), (image, layer, feature)."""

    def compute() -> xr.Dataset:
        layers = seen.model.layers()
        values = {
            name: [[float(STATISTICS[name].function(seen.patches(layer, f))) for f in FEATURES] for layer in layers]
            for name in CURVES
        }
        return xr.Dataset(
            {name: (("image", "layer", "feature"), [value]) for name, value in values.items()},
            {"layer": list(layers), "feature": list(FEATURES)},
        )

    return seen.once("curves", compute)
