import math
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import resample_abs_pos_embed

import analysis
import clearclip
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


# DINO's and DINOv2's positions, as their authors resize them ------------------------------------------------------------


@pytest.fixture(scope="module")
def images():
    return torch.randn(1, 3, 84, 112, generator=torch.Generator().manual_seed(1))


def first_tokens(backbone, images):
    with torch.inference_mode():
        return backbone.block_inputs(images, [1])[1].x


@pytest.mark.parametrize("name", ["dino_vits16", "dinov2_vits14"])
def test_authors_positions_reach_the_first_block(name):
    backbone = clearclip.load(name, random=True, device="cpu")
    p, vit = backbone.patch_size, backbone.vit
    pictures = torch.randn(1, 3, 6 * p, 8 * p, generator=torch.Generator().manual_seed(1))
    side = backbone.grid()[0]
    at_grid = torch.from_numpy(resized(vit.pos_embed[0, 1:], side, (6, 8))).float()
    patches = vit.patch_embed.proj(pictures)[0].flatten(1).T
    expected = torch.cat([vit.cls_token[0] + vit.pos_embed[0, :1], patches + at_grid])[None]
    assert torch.allclose(first_tokens(backbone, pictures), expected, atol=1e-4)
    timms = replace(backbone, positions="timm")
    by_timm = vit._pos_embed(vit.patch_embed(pictures))
    assert torch.equal(first_tokens(timms, pictures), by_timm)
    assert not torch.allclose(by_timm, expected, atol=1e-4)
    assert (backbone.resizing, timms.resizing) == ("authors", "timm")
    assert vit.patch_embed.grid_size == (side, side)  # nothing of the model stays changed


@pytest.mark.parametrize("name", ["dino_vits16", "dinov2_vits14_reg", "clip_vitb32", "mae_vitb16"])
def test_where_the_two_ways_are_one(name, build):
    """At a model's own size, with registers (whose authors resize as timm does), and in all other families."""
    backbone = build(name)
    size = backbone.image_size if name == "dino_vits16" else 4 * backbone.patch_size
    pictures = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    timms = replace(backbone, positions="timm")
    assert torch.equal(first_tokens(backbone, pictures), first_tokens(timms, pictures))
    assert timms.resizing == ("authors" if name.startswith("clip") else "timm")


def test_a_live_dino_has_its_authors_positions_too(images):
    module = timm.create_model("vit_small_patch14_dinov2.lvd142m", img_size=56, depth=1)
    live = clearclip.wrap(module)
    assert live.resizing == "authors" and not module.dynamic_img_size
    assert not torch.equal(first_tokens(live, images), first_tokens(clearclip.wrap(module, positions="timm"), images))
    with pytest.raises(clearclip.UserError, match="'mine': choose one of authors, timm"):
        clearclip.wrap(module, positions="mine")


@pytest.mark.parametrize(("side", "kind"), [(37, "Dinov2Model"), (14, "ViTModel")])
def test_authors_positions_are_nearer_to_transformers_than_timms(side, kind):
    """transformers resizes by size and without antialiasing: the authors' way but for the 0.1 in their scale factor."""
    transformers = pytest.importorskip("transformers", reason="BLIP is an optional extra")
    width, grid = 64, (10, 10)
    embedding = torch.randn(1 + side * side, width, generator=torch.Generator().manual_seed(0))
    config = getattr(transformers, kind.replace("Model", "Config"))(
        image_size=4 * side, patch_size=4, hidden_size=width, num_hidden_layers=0, num_attention_heads=1
    )
    embeddings = getattr(transformers, kind)(config).embeddings
    embeddings.position_embeddings.data = embedding[None]
    theirs = embeddings.interpolate_pos_encoding(torch.zeros(1, 101, width), 40, 40)[0]
    timms = resample_abs_pos_embed(embedding[None], list(grid))[0]
    with torch.inference_mode():
        ours, other = ((positions - theirs).std() for positions in (position.interpolate(embedding, grid), timms))
    assert ours < other / 1.5


def test_positions_are_part_of_a_result_and_of_a_run(photos, tmp_path):
    results = {
        positions: analysis.collect(
            clearclip.load("dino_vits16", random=True, device="cpu", positions=positions),
            photos, ["entropy"], layers=[1], image_size=64, limit=1, progress=False, unfinished=tmp_path / positions,
        )
        for positions in ("authors", "timm")
    }  # fmt: skip
    assert [dataset.positions.values.tolist() for dataset in results.values()] == [["authors"], ["timm"]]
    runs = {xr.load_dataset(tmp_path / positions, engine="h5netcdf").attrs["run"] for positions in results}
    assert len(runs) == 2


def test_blips_norms_have_the_epsilon_of_its_authors(build):
    norms = [module for module in build("blip_vitb16").vit.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == 25 and {norm.eps for norm in norms} == {1e-6}
