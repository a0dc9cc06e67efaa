"""ResCLIP with its second pass, and what borrows attention of middle blocks or of itself, against loops in float64."""

import copy
from collections import Counter
from fractions import Fraction

import pytest
import torch
from scipy.ndimage import correlate1d
from small_models import (
    OBLONG,
    SQUARE,
    block_inputs,
    close,
    dense,
    in_text_space,
    pictures,
    projected,
    refined,
    split,
    texts,
    visual_of,
)
from torch.nn.functional import interpolate, normalize

from clearclip import load
from clearclip.errors import UserError
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.products import Middle
from clearclip.methods.products.same_label import SameLabel, blurred, same_label
from clearclip.methods.recipes import RECIPES, Recipe, recipe
from clearclip.methods.settings import RESCLIP, resclip, tuned
from clearclip.methods.stages import FirstPass
from clearclip.methods.trunk import Trunk

BASES = {"resclip": ("kk",), "resclip+clearclip": ("qq",), "resclip+sclip": ("qq", "kk")}


def scenes(size):
    """Six areas of one color each, and noise."""
    colors = 2 * torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(5))
    return interpolate(colors, size) + 0.3 * pictures(size)


def names_in(model, image, stage):
    """Four names, (4, E): the first pass's features of an image differ most between one and three, and two and four."""
    features = dense(model, image[None], Recipe("first", stage.affinity, residual=stage.residual, ffn=stage.ffn))[0]
    common = normalize(features.mean(0), dim=0)
    rest = features - (features @ common)[:, None] * common
    directions = torch.linalg.svd(rest - rest.mean(0), full_matrices=False).Vh[:2]
    return torch.cat([directions, -directions])


# the second pass -----------------------------------------------------------------------------------------------------


def near(grid):
    """NACLIP's Gaussian, without CLS."""
    places = [divmod(i, grid[1]) for i in range(grid[0] * grid[1])]
    G = torch.zeros(len(places), len(places), dtype=torch.float64)
    for i, (row, column) in enumerate(places):
        for j, (y, x) in enumerate(places):
            G[i, j] = torch.tensor(-((row - y) ** 2 + (column - x) ** 2) / (2 * 5.0**2)).double().exp()
    return G


def alike(labels, grid):
    """B before the blur: exact fractions, so that halves are rounded to even."""
    places = [divmod(i, grid[1]) for i in range(len(labels))]
    farthest = max(max(grid) - 1, 1)
    B = torch.zeros(len(labels), len(labels), dtype=torch.float64)
    for i, start in enumerate(places):
        for j, end in enumerate(places):
            distance = max(abs(a - b) for a, b in zip(start, end, strict=True))
            way = []
            for step in range(distance + 1):
                t = Fraction(step, farthest)
                row, column = (round(a * (1 - t) + b * t) for a, b in zip(start, end, strict=True))
                way.append(labels[row * grid[1] + column])
            if labels[i] == labels[j]:
                stays = all(label == labels[i] for label in way)
                B[i, j] = 1 if stays else torch.tensor(-distance / farthest).double().exp()
    return B


def smooth(B):
    """Every row by SciPy, with zeros beyond its ends."""
    size = min(len(B), 31)
    size += 1 - size % 2
    kernel = torch.exp(-((torch.arange(size).double() - size // 2) ** 2) / (2 * 5.0**2))
    rows = torch.from_numpy(correlate1d(B.numpy(), (kernel / kernel.sum()).numpy(), axis=1, mode="constant"))
    rows = rows / (rows.sum(1, keepdim=True) + 1e-8)
    return rows / rows.max()


def most_frequent(pixels, patch):
    """The label of every patch, the lowest of those that are equally frequent."""
    rows, columns = (side // patch for side in pixels.shape)
    labels = []
    for row in range(rows):
        for column in range(columns):
            of_patch = pixels[row * patch :, column * patch :][:patch, :patch].flatten().tolist()
            labels.append(min(Counter(of_patch).items(), key=lambda item: (-item[1], item[0]))[0])
    return labels


class Loop:
    """ResCLIP's two passes, image by image and head by head."""

    def __init__(self, model, name, settings):
        self.visual, self.model, self.base = visual_of(model), model, BASES[name]
        self.block = name == "resclip+sclip"  # SCLIP keeps residual and FFN
        self.gaussian = name == "resclip"
        self.settings = settings

    def out(self, x, heads, middle, grid, B=None):
        """What the last block gives out, (L, D)."""
        block, share = self.visual.transformer.resblocks[-1], self.settings.share
        attended = []
        for (q, k, v), others in zip(heads, middle, strict=True):
            base = 0
            for pair in self.base:
                u = {"q": q, "k": k}[pair[0]]
                logits = u @ u.T / u.shape[1] ** 0.5
                if B is not None:
                    padded = torch.zeros_like(logits)
                    padded[1:, 1:] = B
                    weight = self.settings.weight
                    logits = self.settings.temperature * ((1 - weight) * logits + weight * padded)
                if self.gaussian:
                    logits[1:, 1:] += near(grid)
                base = base + logits.softmax(1)
            borrowed = sum((a @ b.T / a.shape[1] ** 0.5).softmax(1) for a, b in others) / len(others)
            attended.append(2 * ((1 - share) * base + share * borrowed) @ v)
        x_attn = projected(block, attended)
        if not self.block:
            return x_attn
        x = x + x_attn
        return x + block.mlp(block.ln_2(x))

    def __call__(self, image, names):
        """The features (N, E) of an image, and its patches' labels."""
        blocks = self.visual.transformer.resblocks
        grid, inputs = block_inputs(self.visual, image)
        _, heads = split(blocks[-1], inputs[-1])
        borrowed = [split(blocks[i - 1], inputs[i - 1])[1] for i in (6, 7, 8, 9)]
        middle = [[block[h][:2] for block in borrowed] for h in range(len(heads))]
        first = in_text_space(self.visual, self.out(inputs[-1], heads, middle, grid)[1:])
        cosines = (names.double() @ first.T).unflatten(1, grid)
        maps = interpolate(cosines[None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
        probabilities = (40 * refined(maps, image)).softmax(0)
        pixels = probabilities.argmax(0)
        pixels[probabilities.amax(0) < self.settings.cut] = 0
        labels = most_frequent(pixels, self.model.patch_size)
        x = self.out(inputs[-1], heads, middle, grid, smooth(alike(labels, grid)))
        return in_text_space(self.visual, x[1:]), labels


@pytest.mark.parametrize("size", [SQUARE, OBLONG], ids=["square", "oblong"])
@pytest.mark.parametrize(
    ("name", "dataset"), [("resclip", "voc21"), ("resclip", "ade20k"), *((name, "context59") for name in BASES)]
)
@torch.inference_mode()
def test_resclip_against_the_loop(clip, name, dataset, size):
    loop, tuned_recipe = Loop(clip, name, RESCLIP[dataset]), tuned(RECIPES[name], dataset)
    for image in scenes(size):
        names = names_in(clip, image, tuned_recipe.stages[0])
        expected, labels = loop(image.double(), names)
        assert len(set(labels)) > 1 and close(
            dense(clip, image[None], tuned_recipe, names=names), expected[None].float()
        )


@torch.inference_mode()
def test_the_second_pass_and_the_base_have_a_say(clip):
    names = [*BASES, "resclip_rcs", "resclip_rcs+clearclip"]
    features = dense(clip, pictures(OBLONG), *names)
    for i, name in enumerate(names):
        for other in names[:i]:
            assert not close(features[name], features[other], 1e-3), (name, other)


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (4, 4), (3, 5), (5, 3), (7, 7), (9, 4)], ids=str)
def test_the_way_between_patches_against_the_loop(grid):
    labels = torch.randint(0, 2, (3, grid[0] * grid[1]), generator=torch.Generator().manual_seed(0))
    labels[2] = 1
    got = same_label(labels, grid)
    for row, image in zip(labels.tolist(), got, strict=True):
        assert torch.allclose(image.double(), alike(row, grid), atol=1e-6)
    assert (got[2] == 1).all()


@pytest.mark.parametrize("count", [1, 2, 12, 30, 31, 50])
def test_the_blur_against_scipys(count):
    matrix = torch.rand(2, count, count, generator=torch.Generator().manual_seed(0))
    got = blurred(matrix)
    assert got.shape == matrix.shape and torch.allclose(got.amax((1, 2)), torch.ones(2))
    for rows, image in zip(matrix, got, strict=True):
        assert torch.allclose(image.double(), smooth(rows.double()), atol=1e-6)


@torch.inference_mode()
def test_many_names_are_labeled_in_parts_as_all_at_once(clip, monkeypatch):
    images, stage, labels = scenes(OBLONG)[:1], FirstPass(cut=0.3), []
    names = names_in(clip, images[0], stage)
    for at_once in (1, 3, 4):
        monkeypatch.setattr("clearclip.methods.stages.first_pass.NAMES_AT_ONCE", at_once)
        labels.append(stage(Trunk(clip, images, clip.block_inputs(images, [12]), texts=names).tokens(12)).labels)
    assert torch.equal(labels[0], labels[2]) and torch.equal(labels[1], labels[2]) and len(labels[0].unique()) > 2


@torch.inference_mode()
def test_a_cut_that_no_pixel_reaches_gives_all_the_first_name(clip):
    trunk = Trunk(clip, pictures(OBLONG), clip.block_inputs(pictures(OBLONG), [12]), texts=texts(clip))
    assert not FirstPass(cut=1.0)(trunk.tokens(12)).labels.any()


def test_without_names_there_are_no_labels(clip):
    with pytest.raises(UserError, match="labels patches with the names that are asked for"):
        DenseEncoder(clip, ["resclip"])(pictures(SQUARE))
    with pytest.raises(UserError, match=r"needs the stage FirstPass"):
        dense(clip, pictures(SQUARE), Recipe("mine", "SameLabel()"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SameLabel(pairs="kz"),
        lambda: Middle(pairs=""),
        lambda: Middle(blocks=()),
        lambda: SameLabel(weight=2.0),
        lambda: FirstPass(cut=50),
        lambda: FirstPass("proxy"),
        lambda: FirstPass(dilations=()),
    ],
)
def test_what_makes_no_sense(make):
    with pytest.raises(UserError):
        make()


def test_settings_follow_the_data_set_and_leave_the_rest_alone():
    usual = RECIPES["resclip"]
    assert {name: RECIPES[name] for name in resclip()} == resclip("voc21") and tuned(usual, "voc21") == usual
    theirs = tuned(usual, "voc20")
    assert theirs.name == "resclip" and theirs.affinity == (
        "0.8*SameLabel(temperature=2.1, weight=0.6) + 1.2*qk_middle"
    )
    assert theirs.stages == (FirstPass("0.8*kk_gaussian + 1.2*qk_middle", cut=0.1),)
    assert tuned(usual, "mine") == usual and tuned(RECIPES["sc_clip"], "voc20") == RECIPES["sc_clip"]
    turned = recipe("resclip affinity=kk")
    assert tuned(turned, "voc20") == turned
    more = usual.variant(stages=(*usual.stages, FirstPass(cut=0.2)))
    assert tuned(more, "voc20").stages == (*theirs.stages, FirstPass(cut=0.2))


def test_another_depth_and_every_image_on_its_own():
    model = load("clip_tiny", device="cpu")
    images = torch.rand(3, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    together = dense(model, images, "resclip")
    alone = torch.cat([dense(model, image[None], "resclip") for image in images])
    assert together.shape[:2] == (3, 80) and close(together, alone, 1e-4)


# borrowed and recursive ----------------------------------------------------------------------------------------------


def softmax(a, b):
    return (a @ b.T / a.shape[1] ** 0.5).softmax(1)


def itaclip(visual, inputs):
    """q-q and k-k of the last block and of blocks 7, 8 and 10; residual, no FFN."""
    blocks = visual.transformer.resblocks
    _, heads = split(blocks[-1], inputs[-1])
    borrowed = [split(blocks[i - 1], inputs[i - 1])[1] for i in (7, 8, 10)]
    attended = []
    for h, (q, k, v) in enumerate(heads):
        others = sum(softmax(u, u) for block in borrowed for u in block[h][:2]) / 3
        A = (softmax(q, q) + softmax(k, k)) / 2 + others / 2
        assert torch.allclose(A.sum(1), torch.full((len(A),), 2.0, dtype=A.dtype))
        attended.append(A @ v)
    return inputs[-1] + projected(blocks[-1], attended)


def scra(visual, inputs):
    """Who gave out what is alike, head by head; the rest of the block stays."""
    block, x = visual.transformer.resblocks[-1], inputs[-1]
    _, heads = split(block, x)
    out = projected(block, [softmax(q, k) @ v for q, k, v in heads])
    attended, dropped = [], 0
    for o, (_, _, v) in zip(out.chunk(len(heads), 1), heads, strict=True):
        unit = o / o.norm(dim=1, keepdim=True)
        cosine = unit @ unit.T
        scores = 10 * cosine
        scores[cosine < 0] = float("-inf")
        dropped += int((cosine < 0).sum())
        attended.append(scores.softmax(1) @ v)
    assert dropped
    x = x + projected(block, attended)
    return x + block.mlp(block.ln_2(x))


def centered(model, image):
    """The model with another bias, under which what attention gives out for the tokens of an image is not all alike."""
    model = copy.deepcopy(model)
    block = model.blocks[-1]
    y = block.norm1(model.block_inputs(image[None], [12])[12].x)
    q, k, v = block.qkv(y)
    out = block.output((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v, y)
    block.attention.out_proj.bias.sub_(out.mean((0, 1)))
    return model


@pytest.mark.parametrize("size", [SQUARE, OBLONG], ids=["square", "oblong"])
@pytest.mark.parametrize("method", [itaclip, scra], ids=lambda method: method.__name__)
@torch.inference_mode()
def test_itaclip_and_scra_against_the_loop(clip, method, size):
    for image in scenes(size):
        model = centered(clip, image)
        visual = visual_of(model)
        _, inputs = block_inputs(visual, image.double())
        expected = in_text_space(visual, method(visual, inputs)[1:]).float()
        assert close(dense(model, image[None], method.__name__), expected[None], 5e-5)
