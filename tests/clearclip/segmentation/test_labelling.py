import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plain_labels import plain_labels, plain_scores, same_labels
from skimage import data

import clearclip
from clearclip.datasets import load
from clearclip.methods import windows
from clearclip.methods.windows import PatchLogits, Windows
from clearclip.segmentation.labelling import class_labels, class_scores
from clearclip.segmentation.segmenter import Segmenter

NAMES = ["apple|ball", "grass|tree|leaf", "sky", "water|fish", "sand", "stone|brick"]


def made(size, names, windows, patch=8, seed=0, scale=0.05):
    """Random cosines for a picture of this size."""
    generator = torch.Generator().manual_seed(seed)
    resized = windows.resized(*size)
    parts = [
        (box, 0.2 + scale * torch.randn(names, -(-(box[2] - box[0]) // patch), -(-(box[3] - box[1]) // patch), generator=generator))
        for box in windows.boxes(*resized)
    ]  # fmt: skip
    return PatchLogits(parts, resized, patch)


def owners(names, classes, seed=0):
    """Which class each name belongs to: every class has one, the others lie anywhere; in order, as `embed` gives them."""
    more = torch.randint(0, classes, (names - classes,), generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.arange(classes), more]).sort().values


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    names=st.one_of(st.integers(1, 40), st.integers(250, 280)),
    share=st.floats(0, 1),
    windows=st.builds(lambda side, crop, step: Windows(side, 200, crop, min(step, crop)), *[st.integers(9, 64)] * 3),
    patch=st.sampled_from([4, 8, 14, 16]),
    threshold=st.sampled_from([0.0, 0.05, 0.2, 0.5]),
    scale=st.sampled_from([0.01, 0.05, 0.3]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_every_pixel_equals_the_plain_computation(height, width, names, share, windows, patch, threshold, scale, seed):
    logits = made((height, width), names, windows, patch, seed, scale)
    owner = owners(names, max(1, round(share * names)), seed)
    ours = class_labels(logits, (height, width), owner, threshold)
    assert ours.dtype == torch.int64 and ours.shape == (height, width)
    assert same_labels(ours, plain_scores(logits, (height, width), owner), threshold)


@pytest.fixture(scope="module")
def tiny():
    return clearclip.load("clip_tiny", device="cpu")


PHOTOS = {
    "cat": ((375, 500), Windows(128, 585, 128, 64)),
    "astronaut": ((101, 97), Windows(96, 500, 64, 48)),
    "rocket": ((61, 203), Windows(64, 292, 64, 32)),
    "coffee": ((33, 31), Windows(128, 585, 128, 64)),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_real_photographs(tiny, name):
    size, windows = PHOTOS[name]
    picture = Image.fromarray(getattr(data, name)()).resize(size[::-1])
    segmenter = Segmenter(tiny, NAMES, ["clip", "sclip", "clearclip"], prompts="photo", windows=windows)
    (by_recipe,) = segmenter.logits([picture])
    owner = segmenter.queries.owner
    assert owner.tolist() == [0, 0, 1, 1, 1, 2, 3, 3, 4, 5, 5]
    seen = set()
    for recipe, logits in by_recipe.items():
        for threshold in (0.0, 0.2, 0.5):
            ours, scores = class_labels(logits, size, owner, threshold), plain_scores(logits, size, owner)
            assert same_labels(ours, scores, threshold), recipe
            assert (ours != plain_labels(scores, threshold)).float().mean() < 1e-3  # there are few ties in photographs
            seen |= set(ours.unique().tolist())
    assert len(seen) > 2
    # what a user sees of the same picture
    shown = Segmenter(tiny, NAMES, "sclip", prompts="photo", windows=windows)(picture)
    assert np.array_equal(class_labels(by_recipe["sclip"], size, owner).numpy(), shown.labels)


def test_names_of_equal_embeddings_are_ties_that_the_first_class_wins(tiny):
    """Words that a small text tower does not know are all the same to it."""
    with pytest.warns(UserWarning, match="never trained on some words of: cow, horse, sheep"):
        segmenter = Segmenter(tiny, ["cow", "grass", "horse", "sky", "sheep"], "clip", prompts="photo")
    rows, owner = segmenter.queries.embeddings, segmenter.queries.owner
    assert torch.equal(rows[0], rows[2]) and torch.equal(rows[0], rows[4])
    pictures = [load("scenes", count=8)[i].image for i in range(8)] + [Image.fromarray(data.cat())]
    for picture, by_recipe in zip(pictures, segmenter.logits(pictures), strict=True):
        size = (picture.height, picture.width)
        ours, scores = class_labels(by_recipe["clip"], size, owner), plain_scores(by_recipe["clip"], size, owner)
        assert same_labels(ours, scores) and not set(ours.unique().tolist()) & {2, 4}


@pytest.mark.parametrize("names", [6, 320])
def test_ties_on_every_pixel(names):
    logits = made((50, 70), names // 2, Windows(64, 200, 64, 32))
    twice = PatchLogits([(box, torch.cat([one, one])) for box, one in logits.windows], logits.size, logits.patch)
    ours = class_labels(twice, (50, 70), torch.arange(2 * (names // 2)))
    assert ours.max() < names // 2
    assert torch.equal(ours, class_labels(logits, (50, 70), torch.arange(names // 2)))


def test_a_threshold_on_numbers():
    """Two names of the same cosine have 0.5 each, which is not below 0.5."""
    even = PatchLogits([((0, 0, 8, 8), torch.tensor([0.0, 0.3, 0.3]).view(3, 1, 1).repeat(1, 2, 2))], (8, 8), 4)
    third = float(torch.tensor([0.0, 15.0, 15.0]).softmax(0)[1])
    assert third < 0.5
    for threshold, label in ((0.0, 1), (0.2, 1), (third, 1), (0.5, 0), (1.0, 0)):
        assert class_labels(even, (5, 9), torch.arange(3), threshold).unique().tolist() == [label]
    alone = PatchLogits([((0, 0, 8, 8), torch.zeros(2, 2, 2))], (8, 8), 4)
    assert class_labels(alone, (5, 9), torch.tensor([0, 1]), 0.5).unique().tolist() == [0]
    assert class_labels(alone, (5, 9), torch.tensor([1, 1]), 0.5).unique().tolist() == [1]


@pytest.mark.parametrize("threshold", [0.0, 0.2])
def test_labels_are_the_argmax_of_class_scores(threshold):
    logits, owner = made((60, 44), 23, Windows(64, 200, 64, 32)), owners(23, 9)
    ((_, cosines),) = logits.pixels((60, 44), 2**20)
    scores = class_scores(cosines * 50, owner, 9).permute(2, 1, 0)
    assert torch.equal(class_labels(logits, (60, 44), owner, threshold), plain_labels(scores, threshold))


@pytest.mark.parametrize("names", [40, 400])
def test_only_a_few_cosines_are_held_at_a_time(names):
    logits = made((375, 500), names, Windows(), patch=16)
    sizes = [cosines.numel() for _, cosines in logits.pixels((375, 500))]
    assert sum(sizes) == names * 375 * 500 and max(sizes) <= windows.AT_ONCE["cpu"]


@given(names=st.integers(1, 300), first=st.integers(0, 299), size=st.tuples(*[st.integers(1, 80)] * 2))
@settings(max_examples=40, deadline=None)
def test_equal_names_have_equal_bits_wherever_they_stand(names, first, size):
    """Or a tie would be decided by where a name lies in a register."""
    logits = made(size, names, Windows(64, 200, 64, 32))
    first %= names
    same = [(box, values[first : first + 1].expand(names, -1, -1)) for box, values in logits.windows]
    for _, cosines in PatchLogits(same, logits.size, logits.patch).pixels(size):
        assert torch.equal(cosines, cosines[..., :1].expand_as(cosines))
