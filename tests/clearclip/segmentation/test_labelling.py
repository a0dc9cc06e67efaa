import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

import clearclip
from clearclip.datasets import load
from clearclip.methods.windows import PatchLogits, Windows
from clearclip.segmentation import labelling
from clearclip.segmentation.labelling import class_labels, class_scores, scaled
from clearclip.segmentation.segmenter import Segmenter

NAMES = ["apple|ball", "grass|tree|leaf", "sky", "water|fish", "sand", "stone|brick"]


def plain(logits, size, owner, threshold=0.0):
    """The protocol word for word: every map at full size, ×50, softmax over all names, best name a class, argmax."""
    maps = F.interpolate(logits.maps()[None], size=size, mode="bilinear", align_corners=False)[0]
    names = (50 * maps).softmax(0)
    classes = torch.stack([names[owner == i].amax(0) for i in range(int(owner.max()) + 1)])
    labels = classes.argmax(0)
    return torch.where(classes.amax(0) < threshold, 0, labels) if threshold else labels


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
    assert torch.equal(ours, plain(logits, (height, width), owner, threshold))


@pytest.mark.parametrize("names", [1, 2, 3, 4, 5, 16, 17, 19, 20, 35, 171])
@pytest.mark.parametrize("size", [(64, 64), (40, 70), (200, 131)])
def test_maps_that_are_made_in_parts_have_the_same_bits(names, size):
    logits = made(size, names, Windows(64, 200, 64, 32))
    whole = F.interpolate(logits.maps()[None], size=size, mode="bilinear", align_corners=False)[0]
    parts = labelling.names_in_parts(names, 1)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(names))
    ours = [
        F.interpolate(logits.maps(part)[None], size=size, mode="bilinear", align_corners=False)[0] for part in parts
    ]
    assert torch.equal(torch.cat(ours), whole)


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
            ours = class_labels(logits, size, owner, threshold)
            assert torch.equal(ours, plain(logits, size, owner, threshold)), recipe
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
        ours = class_labels(by_recipe["clip"], (picture.height, picture.width), owner)
        assert torch.equal(ours, plain(by_recipe["clip"], (picture.height, picture.width), owner))


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


def test_labels_are_the_argmax_of_class_scores():
    logits, owner = made((60, 44), 23, Windows(64, 200, 64, 32)), owners(23, 9)
    scores = class_scores(scaled(logits.maps(), (60, 44)), owner, 9)
    assert torch.equal(class_labels(logits, (60, 44), owner), scores.argmax(0))
    assert torch.equal(
        class_labels(logits, (60, 44), owner, 0.2), torch.where(scores.amax(0) < 0.2, 0, scores.argmax(0))
    )


@pytest.mark.parametrize("names", [40, 400])
def test_only_a_few_maps_are_held_at_a_time(names, monkeypatch):
    held, original = [], PatchLogits.maps

    def maps(logits, part=slice(None)):
        held.append(len(range(*part.indices(len(logits)))))
        return original(logits, part)

    monkeypatch.setattr(PatchLogits, "maps", maps)
    logits = made((375, 500), names, Windows(), patch=16)
    class_labels(logits, (375, 500), torch.arange(names))
    assert sum(held) == names and max(held) < 20
