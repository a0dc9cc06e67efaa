"""CorrCLIP with and without regions, and the oracle, against loops in float64; their stages alone."""

import copy

import numpy as np
import open_clip
import pytest
import torch
from sklearn.cluster import DBSCAN
from small_models import block_inputs, close, config, in_text_space, noisy, pictures, projected, split, visual_of
from torch.nn.functional import interpolate, normalize

from clearclip import load
from clearclip.errors import UserError
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.methods.regions import majority, nearest
from clearclip.methods.stages import Branch, MergeRegions, PatchesOnly, RegionCls, Vote
from clearclip.methods.trunk import Guide, Trunk

SIZES = {"square": (64, 64), "wide": (48, 80), "tall": (80, 48)}


@pytest.fixture(scope="module")
def coarse_clip():
    """A CLIP of 16-pixel patches."""
    small = config(12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            open_clip.factory._MODEL_CONFIGS, "coarse", small | {"vision_cfg": small["vision_cfg"] | {"patch_size": 16}}
        )
        yield noisy(load("open_clip:coarse", random=True, device="cpu"))


@pytest.fixture(scope="module")
def pairs(clip, coarse_clip, dino):
    """A CLIP and a second model on a coarser grid, on a finer one, and on the same."""
    fine = load("dino_tiny", device="cpu")
    return {"coarser": (clip, dino), "finer": (coarse_clip, fine), "same": (clip, fine)}


def blobs(size, batch=2, seed=5):
    """A label image per picture: a few regions of any shape, whose borders keep to no grid; numbers with gaps."""
    generator = torch.Generator().manual_seed(seed)
    heights = torch.randn(batch, 6, 4, 5, generator=generator)
    which = interpolate(heights, size, mode="bicubic").argmax(1)
    return torch.tensor([-1, 4, 5, 90, 255, 1000])[which]


def sampled(labels, grid):
    """The label of the pixel where each cell of a grid begins."""
    (H, W), (rows, columns) = labels.shape, grid
    return [labels[r * H // rows][c * W // columns].item() for r in range(rows) for c in range(columns)]


def resampled(labels, grid, target):
    """The same from one grid to another, of labels in a list."""
    return sampled(torch.tensor(labels).view(grid), target)


def correlated(dino, clip, image):
    """q + k of the last block at the patches, normalized, and their grid."""
    tower, seen = copy.deepcopy(dino.model).double(), []
    mean, std, other_mean, other_std = (
        torch.tensor(one.preprocessing[key]).double()[:, None, None] for one in (clip, dino) for key in ("mean", "std")
    )
    tower.blocks[-1].attn.qkv.register_forward_hook(lambda module, given, out: seen.append(out[0]))
    tower.forward_features(((image * std + mean - other_mean) / other_std)[None])
    q, k, _ = seen[0][1:].chunk(3, 1)
    return normalize(q + k, dim=1), tuple(side // dino.patch_size for side in image.shape[1:])


def joined(labels, f, distance):
    """Labels of cells, joined where the cells' mean features are close, by DBSCAN of the formula's distances."""
    kinds = sorted(set(labels))
    if len(kinds) <= 2:
        return labels
    means = [sum(f[i] for i in range(len(f)) if labels[i] == kind) for kind in kinds[1:]]
    means = torch.stack([mean / mean.norm() for mean in means])
    cosines = means @ means.T
    apart = (cosines.max() - cosines).clamp(min=0).numpy()
    groups = DBSCAN(eps=distance, min_samples=1, metric="precomputed").fit_predict(apart)
    new = {kinds[0]: -5, **{kind: int(group) for kind, group in zip(kinds[1:], groups, strict=True)}}
    return [new[label] for label in labels]


def affinity(f, labels):
    """softmax(4 S) over the allowed, row by row."""
    S, none = f @ f.T, min(labels)
    mean, A = S.mean(), torch.zeros(len(f), len(f), dtype=torch.float64)
    for i in range(len(f)):
        loose = [labels[i] == none or labels[j] == none for j in range(len(f))]
        heard = [j for j in range(len(f)) if (S[i, j] > mean if loose[j] else labels[i] == labels[j])]
        A[i, heard] = (4 * S[i, heard]).softmax(0)
    return A


def hat(side, target):
    """Bilinear resampling of a row with half-pixel centers, as a matrix (target, side)."""
    matrix = torch.zeros(target, side, dtype=torch.float64)
    for row in range(target):
        place = min(max((row + 0.5) * side / target - 0.5, 0), side - 1)
        below = min(int(place), side - 2)
        matrix[row, below], matrix[row, below + 1] = 1 - (place - below), place - below
    return matrix


def on_grid(v, grid, target):
    rows, columns = (hat(side, other) for side, other in zip(grid, target, strict=True))
    return torch.einsum("ri,sj,ijc->rsc", rows, columns, v[1:].unflatten(0, grid)).flatten(0, 1)


def with_copies(visual, tokens, labels):
    """The copies of CLS behind the last block, by label: the whole sequence with a mask, through the library's own blocks."""
    kinds = sorted(set(labels))
    R, L = len(kinds), len(tokens)
    mask = torch.full((R + L, R + L), -torch.inf, dtype=torch.float64)
    mask[R:, R:] = 0
    mask[:R, R] = 0
    for i, kind in enumerate(kinds):
        for j, label in enumerate(labels):
            if label == kind:
                mask[i, R + 1 + j] = 0
    x = torch.cat([tokens[:1].expand(R, -1), tokens])[None]
    for block in visual.transformer.resblocks:
        x = block(x, attn_mask=mask)
    return dict(zip(kinds, x[0], strict=False))


def corrclip(model, dino, images, regions, distance=0.2):
    visual, features = visual_of(model), []
    last = visual.transformer.resblocks[-1]
    for image, labels in zip(images.double(), regions, strict=True):
        f, theirs = correlated(dino, model, image)
        grid, inputs = block_inputs(visual, image)
        cells = joined(sampled(labels, theirs), f, distance)
        A = affinity(f, cells)
        streams = []
        for x in (inputs[11], sum(inputs[n] for n in range(6, 11)) / 5):
            _, heads = split(last, x)
            streams.append(visual.ln_post(projected(last, [A @ on_grid(v, grid, theirs) for _, _, v in heads])))
        own = resampled(cells, theirs, grid)
        copies = with_copies(visual, inputs[0], own)
        semantic = torch.stack([copies[label] for label in resampled(own, grid, theirs)])
        y = (streams[0] + streams[1] + 0.5 * visual.ln_post(semantic)) @ visual.proj
        features.append(y / y.norm(dim=1, keepdim=True))
    return torch.stack(features).float()


def encoded(model, dino, images, recipe, **labels):
    return DenseEncoder(model, [recipe], dino).encode(images, **labels).features.popitem()[1]


# CorrCLIP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", ["coarser", "finer", "same"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@torch.inference_mode()
def test_corrclip_against_the_loop(pairs, pair, size):
    (model, dino), images, regions = pairs[pair], pictures(size), blobs(size)
    whole = encoded(model, dino, images, "corrclip", regions=regions)
    assert close(whole, corrclip(model, dino, images, regions), 1e-4)
    without = encoded(model, dino, images, "corrclip")
    assert close(without, corrclip(model, dino, images, torch.zeros_like(regions)), 1e-4)
    assert not close(whole, without, 1e-2)


@pytest.mark.parametrize("distance", [0.001, 0.05, 0.1, 0.15, 2.0])
@torch.inference_mode()
def test_corrclip_with_other_distances(pairs, distance):
    (model, dino), images, regions = pairs["same"], pictures((48, 80)), blobs((48, 80))
    stages = tuple(
        MergeRegions(distance) if isinstance(stage, MergeRegions) else stage for stage in RECIPES["corrclip"].stages
    )
    mine = RECIPES["corrclip"].variant(stages=stages)
    assert close(
        encoded(model, dino, images, mine, regions=regions), corrclip(model, dino, images, regions, distance), 1e-4
    )


@torch.inference_mode()
def test_every_stage_of_corrclip_has_a_say(pairs):
    (model, dino), images, regions = pairs["same"], pictures((48, 80)), blobs((48, 80))
    stages = RECIPES["corrclip"].stages
    whole = encoded(model, dino, images, "corrclip", regions=regions)
    for left_out in (Branch, RegionCls):
        rest = RECIPES["corrclip"].variant(stages=tuple(s for s in stages if not isinstance(s, left_out)))
        assert not close(encoded(model, dino, images, rest, regions=regions), whole, 1e-2)
    merged = [
        encoded(
            model, dino, images, RECIPES["corrclip"].variant(stages=(MergeRegions(d), *stages[1:])), regions=regions
        )
        for d in (0.0, 2.0)
    ]
    assert not close(*merged, 1e-2)


def test_corrclip_of_one_color_has_no_empty_row(clip, dino):
    images = torch.zeros(1, 3, 48, 48)
    assert encoded(clip, dino, images, "corrclip").isfinite().all()
    assert encoded(clip, dino, images, "corrclip", regions=blobs((48, 48), 1)).isfinite().all()


@torch.inference_mode()
def test_batched_as_alone(pairs):
    """Each picture has as many regions as it has, whatever its neighbors in the batch have."""
    (model, dino), images, regions = pairs["same"], pictures((48, 80), 3), blobs((48, 80), 3)
    regions[1] = 7
    together = encoded(model, dino, images, "corrclip", regions=regions)
    alone = [encoded(model, dino, images[i : i + 1], "corrclip", regions=regions[i : i + 1]) for i in range(3)]
    assert close(together, torch.cat(alone), 1e-5)


def test_without_a_second_model_it_says_what_to_do(clip):
    with pytest.raises(UserError, match=r"recipe corrclip: .*second model, such as --proxy dino_vitb8"):
        DenseEncoder(clip, ["corrclip"])


def test_a_tower_without_cls_is_refused(build, dino):
    with pytest.raises(UserError, match=r"corrclip: RegionCls\(\) needs a CLS token"):
        DenseEncoder(build("open_clip:ViT-B-16-SigLIP2"), ["corrclip"], dino)


@torch.inference_mode()
def test_with_one_region_the_copy_is_cls_itself(clip):
    images = pictures((24, 40))
    inputs = clip.block_inputs(images)
    cls = clip.blocks[-1].forward(inputs[12].x)[:, :1]
    trunk = Trunk(clip, images, inputs)
    x, none = RegionCls()(trunk.tokens(12), None)
    assert none is None and x.shape == (2, 16, 64) and torch.allclose(x[:, 1:], cls.expand(-1, 15, -1), atol=1e-5)


@torch.inference_mode()
def test_copies_of_cls_in_a_recipe_on_the_models_own_grid(clip):
    """They are no matter of the second model."""
    size, images = (24, 40), pictures((24, 40))
    regions = blobs(size)
    mine = Recipe("mine", "qq", False, False, stages=(PatchesOnly(), RegionCls(2.0)))
    visual, expected = visual_of(clip), []
    last = visual.transformer.resblocks[-1]
    for image, labels in zip(images.double(), regions, strict=True):
        grid, inputs = block_inputs(visual, image)
        cells = sampled(labels, grid)
        _, heads = split(last, inputs[11])
        x = projected(last, [(q[1:] @ q[1:].T / 4).softmax(1) @ v[1:] for q, _, v in heads])
        copies = with_copies(visual, inputs[0], cells)
        y = (visual.ln_post(x) + 2 * visual.ln_post(torch.stack([copies[c] for c in cells]))) @ visual.proj
        expected.append(y / y.norm(dim=1, keepdim=True))
    assert close(encoded(clip, None, images, mine, regions=regions), torch.stack(expected).float(), 1e-4)


@torch.inference_mode()
def test_which_regions_are_merged(clip, dino):
    """Chains join; what belongs to no region stays alone; labels that the grid does not see do not count."""
    images = pictures((48, 96), 1)
    trunk = Trunk(clip, images, clip.block_inputs(images, [12]), Guide(dino, images, clip))
    directions = torch.tensor(
        [[1.0, 0], [0.95, 0.3122], [0.8, 0.6], [0, 1], [1, 0], [1, 0]]
    )  # five columns and nothing
    features = torch.zeros(1, 18, 3)
    features[0, :, :2] = directions.repeat(3, 1)
    trunk.once("q + k", lambda: features)
    trunk.regions = torch.tensor([2, 3, 4, 5, 9, 0]).repeat_interleave(16).expand(1, 48, 96).clone()
    trunk.regions[:, 1::16] = 77  # between the pixels that are looked at
    merged = MergeRegions(0.1)(trunk.tokens(12)).merged[0]
    assert merged.shape == (3, 6) and (merged == merged[:1]).all()
    assert len(set(merged[0].tolist())) == 3 and merged[0, 5] < merged.min(1).values[0] + 1
    assert merged[0, 0] == merged[0, 1] == merged[0, 2] == merged[0, 4] != merged[0, 3]
    trunk.regions = trunk.regions.clamp(max=3).clamp(min=2)
    assert torch.equal(MergeRegions(2.0)(trunk.tokens(12)).merged, nearest(trunk.regions, (3, 6)))  # two are not merged


# the oracle ----------------------------------------------------------------------------------------------------------


def most(labels, grid, p=8):
    return [
        min((-list(patch).count(label), label) for label in patch)[1]
        for r in range(grid[0])
        for c in range(grid[1])
        for patch in [labels[r * p : r * p + p, c * p : c * p + p].flatten().tolist()]
    ]


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@torch.inference_mode()
def test_oracle_against_the_loop(clip, size):
    images, truth = pictures(size), blobs(size)
    truth[0, :20, :20] = 255
    visual, expected = visual_of(clip), []
    last = visual.transformer.resblocks[-1]
    for image, labels in zip(images.double(), truth, strict=True):
        grid, inputs = block_inputs(visual, image)
        cells = most(labels, grid)
        _, heads = split(last, inputs[11])
        values = []
        for q, _, v in heads:
            q, v = q[1:], v[1:]
            rows = []
            for i in range(len(cells)):
                heard = [j for j in range(len(cells)) if cells[j] == cells[i]]
                rows.append((q[heard] @ q[i] / 4).softmax(0) @ v[heard])
            values.append(torch.stack(rows))
        expected.append(in_text_space(visual, projected(last, values)))
    got = encoded(clip, None, images, "oracle", truth=truth)
    assert close(got, torch.stack(expected).float(), 1e-4)
    one = encoded(clip, None, images, "oracle", truth=torch.zeros_like(truth))
    alone = encoded(clip, None, images, Recipe("alone", "qq", False, False, stages=(PatchesOnly(),)))
    assert close(one, alone, 1e-5)  # with one label nothing is left out but CLS


@pytest.mark.parametrize("pair", ["kk", "qk", "vv"])
def test_oracle_of_another_affinity(clip, pair):
    images = pictures((24, 40))
    mine = Recipe("mine", f"Oracle(pair={pair!r})", False, False)
    alone = Recipe("alone", pair, False, False, stages=(PatchesOnly(),))
    truth = torch.zeros(2, 24, 40, dtype=torch.int64)
    assert close(encoded(clip, None, images, mine, truth=truth), encoded(clip, None, images, alone), 1e-5)
    with pytest.raises(UserError, match="a pair of q, k and v"):
        Recipe("bad", "Oracle(pair='qx')", False, False)


def test_oracle_without_truth(clip):
    with pytest.raises(UserError, match="the true label of every pixel"):
        DenseEncoder(clip, ["oracle"])(pictures((24, 40)))


# helpers and labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(3, 5), (6, 10), (7, 9), (48, 80), (96, 160)])
def test_nearest(grid):
    labels = blobs((48, 80))
    assert [image.flatten().tolist() for image in nearest(labels, grid)] == [sampled(image, grid) for image in labels]
    assert torch.equal(nearest(labels * 2**40, grid), nearest(labels, grid) * 2**40)


def test_majority():
    labels = blobs((48, 80))
    assert [image.tolist() for image in majority(labels, (6, 10))] == [most(image, (6, 10)) for image in labels]


def test_vote_against_a_loop():
    rng = np.random.default_rng(0)
    labels, regions = rng.integers(0, 4, (20, 30)).astype(np.uint8), rng.choice([-1, 3, 4, 255, 9000], (20, 30))
    voted, expected = Vote()(labels, regions), labels.copy()
    for region in (3, 4, 255, 9000):
        inside = labels[regions == region].tolist()
        expected[regions == region] = min(set(inside), key=lambda label: (-inside.count(label), label))
    assert voted.dtype == np.uint8 and np.array_equal(voted, expected) and not np.array_equal(voted, labels)
    assert np.array_equal(Vote()(labels, None), labels)
    assert np.array_equal(Vote()(labels, np.full_like(labels, 9)), labels)  # the smallest is no region
