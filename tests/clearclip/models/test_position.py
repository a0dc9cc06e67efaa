import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clearclip.models import position


def keys(side, target):
    """Bicubic resampling (Keys 1981, a = −3/4) of a row by the factor (target + 0.1) / side, as a matrix."""

    def cubic(t):
        t = abs(t)
        if t <= 1:
            return 1.25 * t**3 - 2.25 * t**2 + 1
        return -0.75 * t**3 + 3.75 * t**2 - 6 * t + 3 if t < 2 else 0.0

    matrix = np.zeros((target, side))
    for row in range(target):
        place = (row + 0.5) * side / (target + 0.1) - 0.5
        for column in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[row, min(max(column, 0), side - 1)] += cubic(place - column)
    return matrix


def resized(patches, side, grid):
    image = np.asarray(patches, dtype=np.float64).reshape(side, side, -1)
    return np.einsum("ri,cj,ijd->rcd", keys(side, grid[0]), keys(side, grid[1]), image).reshape(grid[0] * grid[1], -1)


@settings(deadline=None, database=None)
@given(side=st.integers(2, 24), rows=st.integers(1, 50), columns=st.integers(1, 50), prefix=st.integers(0, 5))
def test_position_interpolation_against_the_formula(side, rows, columns, prefix):
    embedding = torch.randn(prefix + side * side, 3, generator=torch.Generator().manual_seed(side))
    result = position.interpolate(embedding, (rows, columns), prefix)
    assert torch.equal(result[:prefix], embedding[:prefix])
    if (rows, columns) == (side, side):
        assert torch.equal(result, embedding)
    else:
        expected = resized(embedding[prefix:], side, (rows, columns))
        assert np.abs(result[prefix:].numpy() - expected).max() < 1e-3


def test_position_interpolation_of_an_equal_number_of_patches():
    embedding = torch.randn(1 + 36, 2, generator=torch.Generator().manual_seed(0))
    result = position.interpolate(embedding, (4, 9))
    assert result.shape == embedding.shape and not torch.allclose(result[1:], embedding[1:])


def test_position_interpolation_keeps_the_type_and_refuses_what_is_no_square():
    assert position.interpolate(torch.ones(1 + 16, 2, dtype=torch.float16), (6, 3)).dtype == torch.float16
    with pytest.raises(ValueError, match="12 patch positions"):
        position.interpolate(torch.ones(1 + 12, 2), (4, 4))


@pytest.mark.parametrize("name", ["clip_vitb32", "blip_vitb16"])
@torch.inference_mode()
def test_the_resized_embedding_reaches_the_first_block(name, build):
    backbone = build(name)
    patch, vit = backbone.patch_size, backbone.vit
    images = torch.randn(1, 3, 2 * patch, 7 * patch, generator=torch.Generator().manual_seed(0))
    x = backbone.block_inputs(images, [1])[1].x
    if name.startswith("clip"):
        patches, embedding = vit.conv1(images), vit.positional_embedding
        cls = vit.class_embedding
    else:
        patches, embedding = vit.embeddings.patch_embedding(images), vit.embeddings.position_embedding[0]
        cls = vit.embeddings.class_embedding[0, 0]
    at_grid = torch.from_numpy(resized(embedding[1:], backbone.grid()[0], (2, 7))).float()
    stream = torch.cat([(cls + embedding[0])[None], patches[0].flatten(1).T + at_grid])[None]
    assert torch.allclose(x, vit.ln_pre(stream) if name.startswith("clip") else stream, atol=1e-4)
