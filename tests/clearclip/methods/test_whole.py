"""What happens once all windows of a picture are there: LPOSS, Trident, SCGA, and each of their parts, against loops in float64."""

import copy
import itertools

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from plain_labels import plain_scores, same_labels
from scipy.sparse import csr_array
from scipy.sparse.linalg import cg
from skimage.color import rgb2lab
from small_models import block_inputs, close, config, noisy, projected, split, visual_of

from clearclip import load
from clearclip.errors import UserError
from clearclip.methods import stages
from clearclip.methods.graph import mean_cosine, propagated
from clearclip.methods.recipes import RECIPES, Recipe, recipe
from clearclip.methods.stages import AggregateWhole, Propagate, PropagatePixels, Scga
from clearclip.methods.stages.propagate_pixels import neighborhoods
from clearclip.methods.stages.stage import Picture, Scoring
from clearclip.methods.stages.whole import listened, spliced
from clearclip.methods.windows import PatchLogits, Windows
from clearclip.segmentation.labelling import class_labels
from clearclip.segmentation.segmenter import Segmenter

CUT = Windows(64, 2048, 48, 16)  # 6 × 6 patches of 8 pixels, 3 × 3 of the second model's
SHAPES = {"square": (64, 64), "wide": (64, 100)}  # windows of the wide one do not lie on its patches
NAMES = "horse, grass, sky"


@pytest.fixture(scope="module")
def clip():
    """The small CLIP, with a text tower that knows all words."""
    shape = config(12)
    with pytest.MonkeyPatch.context() as patch:
        shape["text_cfg"]["vocab_size"] = 49408
        patch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny_with_words", shape)
        yield noisy(load("open_clip:tiny_with_words", random=True, device="cpu"))


def photo(shape, seed=0):
    """Patches of a few colors, with noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 255, (shape[0] // 8 + 1, shape[1] // 8 + 1, 3))
    fine = coarse.repeat(8, 0).repeat(8, 1)[: shape[0], : shape[1]] + generator.integers(-20, 20, (*shape, 3))
    return Image.fromarray(fine.clip(0, 255).astype(np.uint8))


def segmenter(clip, dino, *which, **options):
    return Segmenter(clip, NAMES, which, windows=CUT, prompts="photo", proxy=dino, **options)


# the loops -----------------------------------------------------------------------------------------------------------


def image_of(clip, picture):
    """The picture as the model is given it, (3, H, W) float64; it has the size of the windows already."""
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).double() / 255
    return clip.normalize(pixels)


def last_input(tower, image):
    """What the last block of a timm tower is given, for one image."""
    x = tower.norm_pre(tower._pos_embed(tower.patch_embed(image[None])))
    for block in tower.blocks[:-1]:
        x = block(x)
    return x[0]


def qkv(block, x):
    """q, k, v of a timm block, each (heads, L, C)."""
    heads = block.attn.num_heads
    return block.attn.qkv(block.norm1(x)).unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)


class Both:
    """The two towers in float64 on the windows of one picture."""

    def __init__(self, clip, dino, picture):
        self.clip, self.dino = clip, dino
        self.visual, self.tower = visual_of(clip), copy.deepcopy(dino.model).double()
        self.image, self.size = image_of(clip, picture), (picture.height, picture.width)
        self.boxes = CUT.boxes(*self.size)
        self.crops = [self.image[:, y:bottom, x:right] for y, x, bottom, right in self.boxes]

    def guided(self, image):
        """The input of the second model's last block, and its grid."""
        size = tuple(side // 16 * 16 for side in image.shape[1:])
        image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
        return last_input(self.tower, self.dino.normalize(self.clip.denormalize(image))), (size[0] // 16, size[1] // 16)

    def names(self, features, texts):
        """Cosines of patches and names, (N, Q)."""
        return features / features.norm(dim=1, keepdim=True) @ texts.double().T


def conjugate_gradients(W, Y):
    """(I − .95·Ŵ)·Z = .05·Y, 10 iterations, one name after another."""
    degree = W.sum(1)
    degree[degree == 0] = 1
    W = W / np.sqrt(np.outer(degree, degree))
    columns = [cg(np.eye(len(W)) - 0.95 * W, 0.05 * y, rtol=1e-6, maxiter=10)[0] for y in Y.T.numpy()]
    return torch.from_numpy(np.stack(columns, 1))


def neighbors(features, places, k=400):
    """W of LPOSS, entry by entry."""
    unit = (features / features.norm(dim=1, keepdim=True)).numpy()
    S, N = unit @ unit.T, len(unit)
    W = np.zeros((N, N))
    for i in range(N):
        for j in np.argsort(-S[i])[: min(k, N)]:
            W[i, j] = max(S[i, j], 0) ** 3 * np.exp(-0.01 * np.hypot(*(places[i] - places[j])))
    W = W + W.T
    np.fill_diagonal(W, 0)
    return W


def lposs(both, texts, k=400):
    """Z at every pixel of the picture, (Q, H, W)."""
    Y, features, places = [], [], []
    last, block = both.visual.transformer.resblocks[-1], both.tower.blocks[-1]
    for crop, (top, left, _, _) in zip(both.crops, both.boxes, strict=True):
        x = block_inputs(both.visual, crop)[1][-1]
        x = x + projected(last, [v for _, _, v in split(last, x)[1]])  # MaskCLIP: no attention …
        x = x + last.mlp(last.ln_2(x))  # … but all that stands behind it
        Y.append(both.names((both.visual.ln_post(x) @ both.visual.proj)[1:], texts))
        tokens, grid = both.guided(crop)
        v = qkv(block, tokens)[2][:, 1:].transpose(0, 1).flatten(1).T.unflatten(1, grid)
        features.append(F.interpolate(v[None], size=(6, 6), mode="bilinear")[0].flatten(1).T)
        places += [np.array([top + 4 + 8 * row, left + 4 + 8 * column]) for row in range(6) for column in range(6)]
    Z = conjugate_gradients(neighbors(torch.cat(features), places, k), torch.cat(Y))
    return joined(both, Z.split(36))


def joined(both, parts):
    """Every window's scores at its pixels, the mean where windows overlap."""
    total, count = torch.zeros(parts[0].shape[1], *both.size).double(), torch.zeros(both.size)
    for (top, left, bottom, right), part in zip(both.boxes, parts, strict=True):
        size = (bottom - top, right - left)
        total[:, top:bottom, left:right] += F.interpolate(
            part.T.unflatten(1, (6, 6))[None], size=size, mode="bilinear"
        )[0]
        count[top:bottom, left:right] += 1
    return total / count


def pixel_graph(lab, reach=6):
    """W of LPOSS+, pixel by pixel."""
    H, W = lab.shape[:2]
    graph = np.zeros((H * W, H * W))
    for y, x in itertools.product(range(H), range(W)):
        for other_y in range(max(0, y - reach), min(H, y + reach + 1)):
            across = np.arange(max(0, x - reach), min(W, x + reach + 1))
            graph[y * W + x, other_y * W + across] = np.exp(
                -np.linalg.norm(lab[y, x] - lab[other_y, across], axis=1) / 0.01
            )
    np.fill_diagonal(graph, 0)
    return graph


def on_cells(both, maps, grid, pixels):
    """Maps of windows at the cells of the picture, cell by cell: where each window has its center, bilinearly."""
    rows, columns = maps[0].shape[1:]
    result = torch.zeros(len(maps[0]), *grid).double()
    for i, j in itertools.product(range(grid[0]), range(grid[1])):
        y, x = (i + 0.5) * both.size[0] / grid[0], (j + 0.5) * both.size[1] / grid[1]
        seen = []
        for values, (top, left, bottom, right) in zip(maps, both.boxes, strict=True):
            if top <= y < bottom and left <= x < right:
                row = min(max((y - top) / pixels - 0.5, 0), rows - 1)
                column = min(max((x - left) / pixels - 0.5, 0), columns - 1)
                a, b = min(int(row), rows - 2), min(int(column), columns - 2)
                above = values[:, a, b] * (b + 1 - column) + values[:, a, b + 1] * (column - b)
                below = values[:, a + 1, b] * (b + 1 - column) + values[:, a + 1, b + 1] * (column - b)
                seen.append(above * (a + 1 - row) + below * (row - a))
        result[:, i, j] = sum(seen) / len(seen)
    return result


def alike(S, gamma, level):
    scores = gamma * (S - level)
    scores[(scores < 0) & ~torch.eye(len(S), dtype=torch.bool)] = float("-inf")
    return scores.softmax(1)


def cosines(x):
    unit = x / x.norm(dim=1, keepdim=True)
    return unit @ unit.T


def trident(both, texts):
    """The scores on the second model's grid, (Q, rows, columns)."""
    last, block = both.visual.transformer.resblocks[-1], both.tower.blocks[-1]
    inputs = [block_inputs(both.visual, crop)[1][-1] for crop in both.crops]
    S = [cosines(both.tower.norm(block(both.guided(crop)[0][None]))[0, 1:]) for crop in both.crops]
    level = 1.2 * sum(s.mean() for s in S) / len(S)
    maps = []
    for x, s in zip(inputs, S, strict=True):
        values = []
        for _, _, v in split(last, x)[1]:
            v = F.interpolate(v[1:].T.unflatten(1, (6, 6))[None], size=(3, 3), mode="bilinear")[0].flatten(1).T
            values.append(alike(s, 3, level) @ v)
        maps.append(projected(last, values).T.unflatten(1, (3, 3)))
    spliced = on_cells(both, maps, (round(both.size[0] / 16), round(both.size[1] / 16)), 16)
    tokens, grid = both.guided(both.image)
    x = F.interpolate(spliced[None], size=grid, mode="bilinear")[0].flatten(1).T
    q, k, v = (part[:, 1:] for part in qkv(block, tokens))
    C = torch.stack([cosines(head) for head in v])
    W = torch.zeros(C.shape[1:]).double()
    for i in range(len(W)):
        threshold = min(1.2 * C[:, i].mean(), 0.9)
        for head in range(len(C)):
            A = (q[head, i] @ k[head].T / q.shape[2] ** 0.5).softmax(0)
            for j in range(len(W)):
                W[i, j] += A[j] / len(C) if C[head, i, j] > threshold else 0
    assert 0.05 < (W == 0).double().mean() < 0.95  # the threshold has a say
    x = W / W.sum(1, keepdim=True) @ x
    return both.names(both.visual.ln_post(x) @ both.visual.proj, texts).T.unflatten(1, grid)


def clearclip_scga(both, texts):
    """ClearCLIP's patches of the whole picture, behind the final norm, averaged over those alike."""
    last, maps = both.visual.transformer.resblocks[-1], []
    for crop in both.crops:
        heads = split(last, block_inputs(both.visual, crop)[1][-1])[1]
        x = projected(last, [(q @ q.T / q.shape[1] ** 0.5).softmax(1) @ v for q, _, v in heads])
        maps.append(both.visual.ln_post(x)[1:].T.unflatten(1, (6, 6)))
    grid = round(both.size[0] / 8), round(both.size[1] / 8)
    x = on_cells(both, maps, grid, 8).flatten(1).T
    S = cosines(x)
    averaged = alike(S, 10, S.mean()) @ x
    return both.names(averaged @ both.visual.proj, texts).T.unflatten(1, grid)


# the recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@torch.inference_mode()
def test_lposs_against_the_loop(clip, dino, shape):
    ours = segmenter(clip, dino, "lposs", "maskclip")
    (logits,) = ours.logits([photo(shape)])
    theirs = lposs(Both(clip, dino, photo(shape)), ours.queries.embeddings).float()
    assert close(logits["lposs"].maps(), theirs, 1e-4)
    assert not close(logits["maskclip"].maps(), theirs, 1e-1)


@torch.inference_mode()
def test_few_neighbors_against_the_loop(clip, dino):
    ours = segmenter(clip, dino, Recipe("few", "identity", stages=(Propagate(k=20),)))
    (logits,) = ours.logits([photo((64, 64))])
    theirs = lposs(Both(clip, dino, photo((64, 64))), ours.queries.embeddings, k=20).float()
    assert close(logits["few"].maps(), theirs, 1e-4)


@pytest.mark.parametrize("shape", [(17, 23), (9, 5)], ids=["wide", "smaller than a neighborhood"])
@torch.inference_mode()
def test_pixels_against_the_loop(clip, shape):
    image, scores = photo(shape), torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    given = {"image": image_of(clip, image).float(), "model": clip}
    logits = PatchLogits([((0, 0, *shape), scores.clone())], shape, 1)
    result = PropagatePixels()(logits, Picture(**{name: given.get(name) for name in Picture._fields}))
    lab = rgb2lab(np.asarray(image) / 255) / np.array([100, 128, 128])
    theirs = conjugate_gradients(pixel_graph(lab), scores.double().flatten(1).T).T.unflatten(1, shape).float()
    assert close(result.maps(), theirs, 1e-4) and torch.equal(result.maps(slice(1, 2)), result.maps()[1:2])


@torch.inference_mode()
def test_lposs_plus_is_both_stages(clip, dino):
    ours = segmenter(clip, dino, "lposs", "lposs+")
    (logits,) = ours.logits([photo((64, 100))])
    given = {"image": image_of(clip, photo((64, 100))).float(), "model": clip}
    again = PropagatePixels()(logits["lposs"], Picture(**{name: given.get(name) for name in Picture._fields}))
    assert close(logits["lposs+"].maps(), again.maps(), 1e-4) and logits["lposs+"].size == (64, 100)
    owner = ours.queries.owner
    labels = class_labels(logits["lposs+"], (64, 100), owner)
    assert same_labels(labels, plain_scores(logits["lposs+"], (64, 100), owner))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@torch.inference_mode()
def test_trident_against_the_loop(clip, dino, shape):
    ours = segmenter(clip, dino, "trident")
    (logits,) = ours.logits([photo(shape)])
    ((box, scores),) = logits["trident"].windows
    theirs = trident(Both(clip, dino, photo(shape)), ours.queries.embeddings).float()
    assert box == (0, 0, *shape) and close(scores, theirs, 1e-4) and logits["trident"].maps().shape == (3, *shape)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@torch.inference_mode()
def test_scga_against_the_loop(clip, dino, shape):
    ours = segmenter(clip, None, "clearclip+scga")
    (logits,) = ours.logits([photo(shape)])
    ((_, scores),) = logits["clearclip+scga"].windows
    assert close(scores, clearclip_scga(Both(clip, dino, photo(shape)), ours.queries.embeddings).float(), 1e-4)


@torch.inference_mode()
def test_neither_batches_nor_other_pictures_matter(clip, dino):
    which = ["clearclip", "lposs+", "trident", "proxyclip+scga"]
    pictures = [photo((64, 100), 0), photo((30, 64), 1), photo((64, 64), 2)]
    together = list(segmenter(clip, dino, *which).logits(pictures))
    for picture, theirs in zip(pictures, together, strict=True):
        (alone,) = segmenter(clip, dino, *which, batch_size=1).logits([picture])
        assert all(close(alone[name].maps(), theirs[name].maps(), 1e-4) for name in which)


@torch.inference_mode()
def test_one_mean_over_all_windows(clip, dino):
    """Windows that differ would have means of their own."""
    own = Recipe("own", "proxy", False, False)
    one = Recipe("one", "Proxy(together=True)", False, False)
    ours = segmenter(clip, dino, own, one)
    half = np.asarray(photo((64, 100))).copy()
    half[:, :40] = 128
    (logits,) = ours.logits([Image.fromarray(half)])
    assert not close(logits["one"].maps(), logits["own"].maps(), 1e-3)
    ours.windows = Windows(64, 2048, 64, 64)
    (logits,) = ours.logits([photo((64, 64))])
    assert close(logits["one"].maps(), logits["own"].maps(), 1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (200, 9)])
@torch.inference_mode()
def test_pictures_of_any_size(clip, dino, shape):
    ours = segmenter(clip, dino, "lposs+", "trident", "clearclip+scga")
    ours.windows = Windows(20, 64, 24, 12)
    for name, result in ours.each(photo(shape))[0].items():
        assert result.labels.shape == shape and np.isfinite(result.scores).all(), name


@torch.inference_mode()
def test_in_half_precision(dino):
    image, which = photo((64, 100)), ["lposs+", "trident", "clearclip+scga"]
    cut = {"windows": CUT, "prompts": "photo", "proxy": dino}
    (full,) = Segmenter(load("clip_tiny", device="cpu"), "boat, sky", which, **cut).logits([image])
    (half,) = Segmenter(load("clip_tiny", device="cpu", precision="bf16"), "boat, sky", which, **cut).logits([image])
    for name in which:
        assert half[name].maps().dtype == torch.float32 and close(half[name].maps(), full[name].maps(), 0.1), name


# the parts -----------------------------------------------------------------------------------------------------------


def graph(count=30, names=4):
    generator = torch.Generator().manual_seed(0)
    W = torch.rand(count, count, generator=generator, dtype=torch.float64) ** 8
    W = W + W.T
    root = W.sum(1).rsqrt()
    return (root[:, None] * W * root).numpy(), torch.rand(count, names, generator=generator, dtype=torch.float64)


def test_propagation_is_the_solution_of_its_equation():
    W, Y = graph()
    Z = propagated(csr_array(W), Y, 0.95, steps=500, tolerance=1e-12)
    assert np.allclose(Z, np.linalg.solve(np.eye(30) - 0.95 * W, 0.05 * Y.numpy()), atol=1e-10)


@pytest.mark.parametrize("steps", [1, 3, 10, 100])
def test_propagation_step_by_step_is_that_of_scipy(steps):
    W, Y = graph()
    Y[:, 1] *= 1e-9  # every name has a scale of its own …
    Y[:, 2] = torch.linalg.eigh(torch.from_numpy(W)).eigenvectors[:, 3]  # … one is done after a single step, …
    Y[:, 3] = 0  # … and one before the first
    Z = propagated(csr_array(W), Y, 0.95, steps)
    for y, z in zip(Y.T, Z.T, strict=True):
        theirs, _ = cg(np.eye(30) - 0.95 * W, 0.05 * y.numpy(), rtol=1e-6, maxiter=steps)
        assert np.allclose(z.numpy(), theirs, rtol=1e-7, atol=1e-14)


def test_who_sees_nobody_keeps_a_share_of_the_score():
    Y = torch.rand(3, 2, dtype=torch.float64)
    assert torch.allclose(propagated(csr_array((3, 3)), Y, 0.95, 10), 0.05 * Y)


@pytest.mark.parametrize("shape", [(7, 9), (3, 20), (20, 2), (1, 5), (1, 1)])
def test_pixels_that_are_neighbors(shape):
    colors = np.random.default_rng(0).random((*shape, 3)) * 0.02
    W = pixel_graph(colors, reach=2)
    degree = W.sum(1)
    degree[degree == 0] = 1
    ours = neighborhoods(colors.transpose(2, 0, 1), 2, 0.01).toarray()
    assert np.allclose(ours, W / np.sqrt(np.outer(degree, degree)), atol=1e-12)


def windows(size, crop, stride, patch=8):
    boxes = Windows(crop=crop, stride=stride).boxes(*size)
    shape = -(-crop // patch), -(-crop // patch)
    return PatchLogits([(box, torch.zeros(1, *shape)) for box in boxes], size, patch)


def test_windows_that_lie_on_patches_are_spliced_to_the_bit():
    logits = windows((32, 48), 32, 16)
    maps = [torch.rand(5, 4, 4) for _ in logits.windows]
    total, count = torch.zeros(5, 4, 6), torch.zeros(4, 6)
    for ((_, left, _, _), _), values in zip(logits.windows, maps, strict=True):
        total[:, :, left // 8 : left // 8 + 4] += values
        count[:, left // 8 : left // 8 + 4] += 1
    assert torch.equal(spliced(logits, maps), total / count)


@pytest.mark.parametrize(("size", "crop", "stride"), [((32, 45), 32, 16), ((50, 61), 24, 10), ((21, 33), 20, 20)])
def test_a_slope_stays_a_slope_wherever_windows_lie(size, crop, stride):
    """Values that grow with the place of their patch; but within half a patch of a window's border nothing is beyond it."""
    logits = windows(size, crop, stride)
    maps = [torch.stack(torch.meshgrid(*logits.centers(i), indexing="ij")) for i in range(len(logits.windows))]
    result = spliced(logits, maps)
    rows, columns = result.shape[1:]
    assert (rows, columns) == (round(size[0] / 8), round(size[1] / 8))
    assert ((result[0] - (torch.arange(rows)[:, None] + 0.5) * size[0] / rows).abs() <= 4).all()
    assert ((result[1] - (torch.arange(columns) + 0.5) * size[1] / columns).abs() <= 4).all()
    assert torch.allclose(spliced(logits, [torch.ones_like(values) for values in maps]), torch.ones(2, rows, columns))


def test_rows_at_a_time_are_the_whole(monkeypatch):
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    unit = F.normalize(x, dim=1)
    whole = alike(unit @ unit.T, 10, mean_cosine(unit)) @ x
    assert mean_cosine(unit) == pytest.approx(float((unit @ unit.T).mean()), abs=1e-6)
    assert torch.allclose(listened(unit, x, 10, mean_cosine(unit)), whole, atol=1e-6)
    monkeypatch.setattr("clearclip.methods.stages.whole.AT_ONCE", 120)
    assert torch.allclose(listened(unit, x, 10, mean_cosine(unit)), whole, atol=1e-6)


@torch.inference_mode()
def test_parts_at_a_time_are_the_whole(clip, dino, monkeypatch):
    which = ["lposs+", "trident", "clearclip+scga"]
    (whole,) = segmenter(clip, dino, *which).logits([photo((64, 100))])
    for module in ("stages.whole", "stages.propagate", "stages.aggregate_whole", "stages.propagate_pixels"):
        monkeypatch.setattr(f"clearclip.methods.{module}.AT_ONCE", 2 if "pixels" in module else 100)
    (parts,) = segmenter(clip, dino, *which).logits([photo((64, 100))])
    assert all(close(parts[name].maps(), whole[name].maps(), 1e-5) for name in which)


# what does not go ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lposs", "lposs+", "trident"])
def test_without_a_second_model(clip, name):
    with pytest.raises(UserError, match=rf"recipe {name.replace('+', '.')}: .* needs a second model"):
        segmenter(clip, None, name)


class Other(Scoring):
    def __call__(self, scores, *_):
        return scores


def test_recipes_that_would_lose_something():
    with pytest.raises(UserError, match="has to stand behind"):
        Recipe("mine", stages=(PropagatePixels(), Scga()))
    with pytest.raises(UserError, match="scores the picture anew"):
        Recipe("mine", stages=(Other(), Scga()))
    with pytest.raises(UserError, match="scores the picture anew"):
        recipe("segearth_ov+scga")


@pytest.mark.parametrize("text", ["Propagate(k=0)", "Propagate(alpha=1)", "PropagatePixels(width=4)", "Scga(gamma=0)"])
def test_numbers_that_make_no_sense(text):
    with pytest.raises(UserError, match=text.partition("(")[0]):
        stages.read(text)


def test_stages_are_read_back():
    mine = (AggregateWhole(negative=0.6, factor=3.0), PropagatePixels(width=5))
    assert stages.read(stages.write(mine)) == mine and stages.read(stages.write(RECIPES["lposs+"].stages))
