"""Token repair, and SC-CLIP and SFP, which are made of it, against loops in float64."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from small_models import (
    SQUARE,
    block_inputs,
    close,
    dense,
    in_text_space,
    pictures,
    projected,
    split,
    visual_of,
)

from clearclip import load
from clearclip.errors import UserError
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.methods.stages import Branch, PatchesOnly, Repair
from clearclip.methods.stages.outliers import ChannelShare, LargeNorms, LocalOutliers, Rule, SeenByCls
from clearclip.methods.trunk import Trunk

EVEN, WIDE = (48, 48), (40, 64)  # 6 × 6 and 5 × 8 patches: more than the 30 neighbors that are asked for


def neighbors(grid, place):
    """The patches around one, by their numbers."""
    row, column = divmod(place, grid[1])
    return [
        y * grid[1] + x
        for y in range(max(0, row - 1), min(grid[0], row + 2))
        for x in range(max(0, column - 1), min(grid[1], column + 2))
        if (y, x) != (row, column)
    ]


def repaired(x, outliers, grid, surrounded):
    """Every outlier by the mean of its good neighbors, one after another."""
    result = x.clone()
    for i in outliers:
        good = [j for j in neighbors(grid, i) if j not in outliers]
        if good:
            result[i] = sum(x[j] for j in good) / len(good)
        elif surrounded == "zero":
            result[i] = 0
    return result


def local_outliers(x, k=30, share=0.05):
    """From scikit-learn's neighbors, patch by patch."""
    k = min(k, len(x) - 1)
    distances, indices = NearestNeighbors(n_neighbors=k).fit(x.numpy()).kneighbors()  # of others, not of itself
    distances = distances**2
    scores = [np.mean([distances[i, -1] / distances[j, -1] for j in indices[i]]) for i in range(len(x))]
    return {i for i, score in enumerate(scores) if score > np.quantile(scores, 1 - share)}


def seen_by_cls(block, x):
    """The ten that CLS sees most, of those that it sees more than they see themselves."""
    _, heads = split(block, x)
    A = sum((q @ k.T / q.shape[1] ** 0.5).softmax(1) for q, k, _ in heads) / len(heads)
    candidates = [j for j in range(1, len(x)) if 1.5 * A[0, j] > A[j, j]]
    return {j - 1 for j in sorted(candidates, key=lambda j: -A[0, j])[:10]}


def cosines(x):
    unit = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)  # SFP makes zeros
    return unit @ unit.T


def averaged(S, x, cut=0.4):
    rows = [sum((S[i, j] * x[j] for j in range(len(x)) if S[i, j] >= cut), 0 * x[0]) for i in range(len(x))]
    sums = [sum(S[i, j] for j in range(len(x)) if S[i, j] >= cut) + 1e-6 for i in range(len(x))]
    return torch.stack([row / total for row, total in zip(rows, sums, strict=True)])


def alike(S):
    scores = 3 * (S - S.mean())
    scores[(scores < 0) & ~torch.eye(len(S), dtype=torch.bool)] = float("-inf")  # a patch of zeros sees itself
    return scores.softmax(1)


def self_attention(u):
    return (u @ u.T / u.shape[1] ** 0.5).softmax(1)


def loop(model, images, name):
    """SC-CLIP or SFP, image by image and head by head."""
    visual, features = visual_of(model), []
    last = visual.transformer.resblocks[-1]
    for image in images.double():
        grid, inputs = block_inputs(visual, image)  # inputs[n] is what block n gave out
        x, nine, four = inputs[11], inputs[9][1:], inputs[4][1:]
        before = visual.transformer.resblocks[10]
        outliers = local_outliers(x[1:]) if name == "sc_clip" else seen_by_cls(before, inputs[10])
        fill = "kept" if name == "sc_clip" else "zero"
        nine, patches = repaired(nine, outliers, grid, fill), repaired(x[1:], outliers, grid, fill)
        S, S4 = cosines(nine), cosines(four)
        other = sum(inputs[n] for n in range(4, 11))
        _, heads = split(last, averaged(S, patches))
        _, other_heads = split(last, other[1:])
        cut = S.masked_fill(S < 0.4, 0) if name == "sfp" else S
        streams = []
        for first, values in ((True, heads), (False, other_heads)):
            attended = []
            for (q, k, _), (_, _, v) in zip(heads, values, strict=True):
                if name == "sc_clip":
                    A = (alike(cut) + self_attention(k)) / 2
                else:
                    A = (alike(cut) + self_attention(k) + self_attention(q)) / 3 if first else alike(cut)
                attended.append(A @ v)
            cls = x[0] if first else other[0]
            streams.append(averaged(S4, projected(last, attended) + 0.3 * cls))
        features.append(in_text_space(visual, streams[0] + streams[1]))
    return torch.stack(features).float()


@pytest.mark.parametrize("size", [EVEN, WIDE], ids=["square", "wide"])
@pytest.mark.parametrize("name", ["sc_clip", "sfp"])
@torch.inference_mode()
def test_recipe_against_the_loop(clip, name, size):
    assert close(dense(clip, pictures(size), name), loop(clip, pictures(size), name), 1e-4)


@pytest.mark.parametrize("name", ["sc_clip", "sfp"])
@torch.inference_mode()
def test_every_stage_has_a_say(clip, name):
    """Otherwise the comparison above would not notice one that is missing."""
    recipe, images = RECIPES[name], pictures(WIDE)
    whole = dense(clip, images, name)
    for i, stage in enumerate(recipe.stages):
        if not isinstance(stage, PatchesOnly):
            rest = Recipe("rest", recipe.affinity, False, False, stages=recipe.stages[:i] + recipe.stages[i + 1 :])
            assert not close(dense(clip, images, rest), whole, 1e-3), stage


def tokens(model, x, grid):
    """Tokens that the last block of a model is given; CLS is 0."""
    images = torch.zeros(len(x), 3, grid[0] * model.patch_size, grid[1] * model.patch_size)
    inputs = model.block_inputs(images, [model.depth - 1, model.depth])
    padded = torch.cat([torch.zeros(len(x), model.prefix_tokens, x.shape[2]), x], 1)
    inputs[model.depth] = inputs[model.depth]._replace(x=padded)
    return Trunk(model, images, inputs).tokens(model.depth)


class At(Rule):
    """Outliers at given places."""

    def __init__(self, places):
        object.__setattr__(self, "places", places)

    def __call__(self, tokens):
        return torch.tensor([[i in self.places for i in range(tokens.own.shape[1])]] * len(tokens.x))


@pytest.mark.parametrize("places", [(), (0,), (0, 1), (3, 7, 14), (0, 1, 5, 6), tuple(range(15))], ids=str)
@pytest.mark.parametrize("surrounded", ["kept", "zero"])
def test_repair_against_the_loop(clip, places, surrounded):
    x = torch.randn(2, 15, 64, generator=torch.Generator().manual_seed(0))
    stage = Repair(At(places), surrounded=surrounded)
    got = stage(tokens(clip, x, (3, 5))).own
    for image, ours in zip(x, got, strict=True):
        assert torch.allclose(ours, repaired(image, set(places), (3, 5), surrounded), atol=1e-6)


def test_local_outliers_are_those_of_scikit_learns_neighbors(clip):
    x = torch.randn(3, 60, 64, generator=torch.Generator().manual_seed(3))
    x[:, 7] *= 4
    got = LocalOutliers()(tokens(clip, x, (6, 10)))
    assert [set(row.nonzero().flatten().tolist()) for row in got] == [local_outliers(image.double()) for image in x]
    assert got.sum(1).tolist() == [3, 3, 3] and got[:, 7].all()


def test_patches_that_are_all_equal_have_no_outliers(clip):
    assert not LocalOutliers()(tokens(clip, torch.ones(1, 12, 64), (3, 4))).any()
    assert not LargeNorms()(tokens(clip, torch.ones(1, 12, 64), (3, 4))).any()


def test_large_norms_and_channels(clip):
    x = torch.ones(1, 12, 64)
    x[0, 3] *= 5
    x[0, 8, 2] = -20.0
    assert LargeNorms()(tokens(clip, x, (3, 4)))[0].nonzero().flatten().tolist() == [3, 8]
    assert ChannelShare((2,))(tokens(clip, x, (3, 4)))[0].nonzero().flatten().tolist() == [8]
    with pytest.raises(UserError, match="channels 0 … 63"):
        ChannelShare()(tokens(clip, x, (3, 4)))


@torch.inference_mode()
def test_seen_by_cls_takes_ten_at_most_and_the_most_seen(clip):
    images = pictures(WIDE, batch=1)
    trunk = Trunk(clip, images, clip.block_inputs(images, [11, 12]))
    visual = visual_of(clip)
    inputs = block_inputs(visual, images[0].double())[1]
    got = SeenByCls()(trunk.tokens(12))[0].nonzero().flatten().tolist()
    assert set(got) == seen_by_cls(visual.transformer.resblocks[10], inputs[10]) and len(got) <= 10


def test_a_repaired_recipe_of_ones_own(clip):
    mine = Recipe("mine", "qq", False, False, stages=(Repair(LargeNorms(1.05)),))
    features = DenseEncoder(clip, [mine, "clearclip"])(pictures(SQUARE))
    assert features["mine"].shape == features["clearclip"].shape and not torch.equal(*features.values())


def test_a_tower_without_cls_is_refused(build):
    with pytest.raises(UserError, match=r"sc_clip: AddCls.* needs a CLS token"):
        DenseEncoder(build("open_clip:ViT-B-16-SigLIP2"), ["sc_clip"])


@pytest.mark.parametrize("name", ["sc_clip", "sfp"])
def test_shallow_and_batched(name):
    """Block numbers go with the depth, and an image does not depend on its neighbors in the batch."""
    model = load("clip_tiny", device="cpu")
    images = torch.rand(3, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    together = dense(model, images, name)
    alone = torch.cat([dense(model, image[None], name) for image in images])
    assert together.shape == (3, 80, model.project(torch.zeros(1, 1, model.width)).shape[-1]) and close(together, alone)


@torch.inference_mode()
def test_a_branch_reads_what_its_own_affinity_looks_at(clip):
    """Also a block that nothing else of the recipe reads."""
    branch = Branch(blocks=(2,), affinity="Similarity(layer=6)")
    mine = Recipe("mine", "kk", False, False, stages=(PatchesOnly(), branch))
    assert {3, 7, 12} == set(mine.reads_layers(12))
    assert dense(clip, pictures(WIDE), mine).isfinite().all()
