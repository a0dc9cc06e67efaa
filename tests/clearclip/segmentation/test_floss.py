"""Templates chosen for each class, and experts that speak where they are sure, against one plain Segmenter for each."""

import importlib.resources

import numpy as np
import pytest
from PIL import Image

from clearclip import load
from clearclip.errors import UserError
from clearclip.methods.windows import Windows
from clearclip.segmentation.floss import choose_templates, with_experts
from clearclip.segmentation.labelling import class_labels
from clearclip.segmentation.segmenter import Segmenter

CLASSES = "water|sand, sky, grass, house"
WHOLE, WINDOWS = Windows(64, 256, 64, 32), Windows(80, 256, 64, 32)
TEMPLATES = ["a photo of a {}.", "{}", "a drawing of the {} at night.", "not one {} here.", "art of {}"]


@pytest.fixture(scope="module")
def model():
    return load("clip_tiny", device="cpu")


@pytest.fixture(scope="module")
def photos():
    with Image.open(importlib.resources.files("skimage.data") / "astronaut.png") as image:
        picture = image.convert("RGB")
    return [picture.resize((90, 70)), picture.crop((100, 0, 400, 400)).resize((70, 100))]


def plain(model, photo, prompts, classes=CLASSES, recipe="clearclip"):
    return Segmenter(model, classes, recipe, windows=WINDOWS, prompts=prompts)(photo)


def names_of(classes):
    return [name for part in classes.split(", ") for name in part.split("|")]


def test_templates_are_those_of_the_lowest_mean_entropy(model, photos):
    segmenter = Segmenter(model, CLASSES, windows=WINDOWS, prompts=TEMPLATES)
    best = choose_templates(segmenter, photos, count=2)
    owner = [0, 0, 1, 2, 3]
    entropies = {name: {} for name in ("water", "sky", "grass", "house")}
    for template in TEMPLATES:
        found = []
        for photo in photos:
            p = plain(model, photo, [template], ", ".join(names_of(CLASSES))).scores.astype(float)  # of all names
            labels = np.array(owner)[p.argmax(0)]
            found += list(zip(labels.ravel(), -(p * np.log(p)).sum(0).ravel(), strict=True))
        for k, name in enumerate(entropies):
            of_class = [entropy for label, entropy in found if label == k]
            if of_class:
                entropies[name][template] = np.mean(of_class)
    expected = {name: sorted(by, key=by.get)[:2] or TEMPLATES for name, by in entropies.items()}
    assert best == expected and len({tuple(each) for each in best.values()}) > 1


@pytest.mark.parametrize("recipe", ["clearclip", "clearclip+pamr"])
def test_at_every_pixel_the_surest_expert_of_its_own_class_speaks(model, photos, recipe):
    classes = "water, sky, grass, house"
    best = dict(zip(names_of(classes), (TEMPLATES[:2], TEMPLATES[2:3], TEMPLATES[3:], TEMPLATES[1:4]), strict=True))
    usual = Segmenter(model, classes, recipe, windows=WINDOWS, prompts=TEMPLATES)
    segmenter = with_experts(usual, best)
    for photo in photos:
        expected = plain(model, photo, TEMPLATES, classes, recipe).scores.copy()
        experts = [plain(model, photo, best[name], classes, recipe).scores for name in best]
        sure = np.stack([np.where(p.argmax(0) == k, p[k], -1) for k, p in enumerate(experts)])
        for y, x in np.ndindex(expected.shape[1:]):
            if sure[:, y, x].max() >= 0:
                expected[:, y, x] = experts[sure[:, y, x].argmax()][:, y, x]
        result = segmenter(photo)
        assert np.allclose(result.scores, expected, atol=1e-4)
        assert (result.labels == expected.argmax(0)).mean() > 0.999
        logits = next(iter(segmenter.logits([photo])))[recipe]
        labels = class_labels(logits, (photo.height, photo.width), usual.queries.owner, threshold=0.3)
        assert np.mean(labels.numpy() == np.where(expected.max(0) < 0.3, 0, expected.argmax(0))) > 0.999
    assert usual.experts is None and not np.array_equal(usual(photo).scores, result.scores)


def test_several_names_of_a_class_have_one_expert(model, photos):
    best = {"water": TEMPLATES[:2], "sky": TEMPLATES[2:]}
    result = with_experts(Segmenter(model, "water|sand, sky", windows=WHOLE, prompts="photo"), best)(photos[0])
    assert result.scores.shape == (2, 70, 90) and result.classes == ("water", "sky")


def test_what_experts_cannot_do(model, photos):
    segmenter = Segmenter(model, CLASSES, windows=WHOLE, prompts=TEMPLATES)
    with pytest.raises(UserError, match="sky, grass, house"):
        with_experts(segmenter, {"water": ["{}"]})
    with pytest.raises(UserError, match="there is none"):
        choose_templates(segmenter, [])
    with pytest.raises(UserError, match="at least one"):
        choose_templates(segmenter, photos, count=0)
    comparing = Segmenter(model, CLASSES, "clearclip+surgery", windows=WHOLE, prompts=TEMPLATES)
    with pytest.raises(UserError, match="compare names"):
        choose_templates(comparing, photos)
