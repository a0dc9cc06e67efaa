"""Stages behind the features, PAMR and feature surgery, against loops in float64."""

import itertools

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_models import OBLONG, SQUARE, block_inputs, close, config, in_text_space, noisy, pictures, visual_of

from clearclip import load
from clearclip.errors import UserError
from clearclip.methods import recipes as known
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import RECIPES, recipe
from clearclip.methods.stages import Pamr, Surgery, read, write
from clearclip.methods.stages import pamr as pamr_stage
from clearclip.methods.stages.stage import Picture
from clearclip.methods.windows import PatchLogits, Windows
from clearclip.segmentation.labelling import class_labels
from clearclip.segmentation.segmenter import Segmenter
from clearclip.segmentation.text import templates

WINDOWS = Windows(32, 128, 32, 16)


@pytest.fixture(scope="module")
def speaking():
    """A CLIP whose text tower has the words of a tokenizer."""
    with pytest.MonkeyPatch.context() as patch:
        words = {"text_cfg": config(12)["text_cfg"] | {"vocab_size": 49408}}
        patch.setitem(open_clip.factory._MODEL_CONFIGS, "speaking", config(12) | words)
        yield noisy(load("open_clip:speaking", random=True, device="cpu"))


def photo(size):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))


def texts(count, width=48):
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(3)), dim=1)


# PAMR ----------------------------------------------------------------------------------------------------------------


def shifted(place, step, side):
    """A row or column, and those `step` before and behind it, within the border."""
    return [min(max(place + by, 0), side - 1) for by in (-step, 0, step)]


def refined(scores, image, dilations, steps):
    """Pixel by pixel: scores (Q, H, W) and the image (3, H, W) in float64."""
    H, W = image.shape[1:]
    for _ in range(steps):
        before, scores = scores, scores.clone()
        for row, column in itertools.product(range(H), range(W)):
            places = [
                place
                for step in dilations
                for i, place in enumerate(itertools.product(shifted(row, step, H), shifted(column, step, W)))
                if i != 4
            ]
            colors = torch.stack([image[:, y, x] for y, x in places])  # (8 · dilations, 3)
            center = image[:, row, column]
            deviation = torch.cat([colors, center.expand(len(dilations), 3)]).std(0)  # unbiased
            weights = (-((colors - center).abs() / (1e-8 + 0.1 * deviation)).mean(1)).softmax(0)
            scores[:, row, column] = sum(w * before[:, y, x] for w, (y, x) in zip(weights, places, strict=True))
    return scores


@pytest.mark.parametrize("size", [(12, 12), (11, 17)], ids=["square", "oblong"])
def test_scores_are_refined_at_the_size_of_the_picture_itself(size):
    generator = torch.Generator().manual_seed(0)
    logits = PatchLogits([((0, 0, 8, 12), torch.randn(3, 2, 3, generator=generator))], (8, 12), 4)
    image = torch.randn(3, 8, 12, generator=generator)
    stage = Pamr(steps=2, dilations=(1, 3))
    result = stage(logits, Picture(image, size, None, None, None, None))

    def enlarged(maps):
        return F.interpolate(maps[None].double(), size=size, mode="bilinear", align_corners=False)[0]

    expected = refined(enlarged(logits.maps()), enlarged(image), (1, 3), 2)
    assert result.size == size and len(result) == 3
    assert close(result.maps().double(), expected)
    assert torch.equal(result.maps(slice(1, 2)), result.maps()[1:2])
    assert not close(enlarged(logits.maps()), expected, 0.05)


def test_without_steps_scores_are_resized_only():
    logits = PatchLogits([((0, 0, 8, 8), torch.rand(2, 2, 2))], (8, 8), 4)
    picture = Picture(torch.rand(3, 8, 8), (10, 14), None, None, None, None)
    plain = F.interpolate(logits.maps()[None], size=(10, 14), mode="bilinear")[0]
    assert torch.equal(Pamr(steps=0)(logits, picture).maps(), plain)


def test_a_large_picture_is_refined_in_bands_that_leave_no_trace(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits = PatchLogits([((0, 0, 16, 8), torch.randn(2, 4, 2, generator=generator))], (16, 8), 4)
    picture = Picture(torch.randn(3, 16, 8, generator=generator), (90, 24), None, None, None, None)
    stage = Pamr(steps=3, dilations=(1, 4))
    whole = stage(logits, picture).maps()
    monkeypatch.setattr(pamr_stage, "AT_ONCE", 24 * 40)
    in_bands = stage(logits, picture)
    assert len(list(in_bands._bands())) > 3
    assert torch.allclose(in_bands.maps(), whole, atol=1e-6)


def test_pamr_may_be_added_to_any_recipe(speaking):
    names = ["clearclip", "clearclip+pamr", "sc_clip+pamr"]
    segmenter = Segmenter(speaking, "horse, grass|sky", names, windows=WINDOWS, prompts="photo")
    picture = photo((40, 55))
    logits = next(iter(segmenter.logits([picture])))
    expected = Pamr()(
        logits["clearclip"],
        Picture(speaking.normalize(_resized(picture, segmenter.windows)), (40, 55), speaking, None, None, None),
    )
    assert torch.equal(logits["clearclip+pamr"].maps(), expected.maps())
    assert logits["clearclip+pamr"].size == (40, 55) != logits["clearclip"].size
    labels = class_labels(logits["clearclip+pamr"], (40, 55), segmenter.queries.owner)
    result = segmenter.each(picture)[0]["clearclip+pamr"]
    assert (result.labels == labels.numpy()).all()
    assert np.allclose(result.scores.max(0), result.scores[labels.numpy(), *np.indices((40, 55))])


def _resized(picture, windows):
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float()
    size = windows.resized(picture.height, picture.width)
    return F.interpolate(pixels[None], size=size, mode="bilinear")[0].round().clamp(0, 255) / 255


# surgery -------------------------------------------------------------------------------------------------------------


def operated(clip, image, which, text):
    """Channel by channel, as the products of image and texts: the scores of all names (Q, N), float64."""
    features = DenseEncoder(clip, [which])(image[None])[which][0].double()
    visual = visual_of(clip)
    _, inputs = block_inputs(visual, image.double())
    last = visual.transformer.resblocks[-1](inputs[-1][None])[0]
    cls = in_text_space(visual, last[:1])[0]
    text = text.double()
    p = torch.tensor([2 * float(cls @ t) for t in text]).double().softmax(0)
    w = p / p.mean()
    scores = torch.empty(len(text), len(features)).double()
    for i, patch in enumerate(features):
        products = torch.stack([patch * t * w[n] for n, t in enumerate(text)])  # (Q, E)
        scores[:, i] = (products - products.mean(0)).sum(1)
    return scores


@pytest.mark.parametrize("size", [SQUARE, OBLONG], ids=["square", "oblong"])
@pytest.mark.parametrize("which", ["clip_surgery", "clearclip+surgery", "sc_clip+surgery"])
def test_surgery_takes_out_what_all_names_share(clip, size, which):
    images, text = pictures(size), texts(5)
    dense = DenseEncoder(clip, [which]).encode(images, texts=text, owner=torch.arange(5))
    cosines = text @ dense.features[which].mT
    scores = recipe(which).scoring[0](cosines, dense.features[which], dense.trunks[which])
    expected = torch.stack([operated(clip, image, which, text) for image in images])
    assert close(scores.double(), expected)
    assert not close(cosines.double(), expected, 0.05)


def test_one_name_alone_is_compared_with_prompts_without_a_name(speaking):
    segmenter = Segmenter(speaking, "horse", "clearclip+surgery", windows=WINDOWS, prompts="simple")
    plain = Segmenter(speaking, "horse", "clearclip", windows=WINDOWS, prompts="simple")
    picture = photo((32, 32))
    scores = next(iter(segmenter.logits([picture])))["clearclip+surgery"].windows[0][1][0]
    image = speaking.normalize(_resized(picture, WINDOWS))[None]
    features = DenseEncoder(speaking, ["clearclip"])(image)["clearclip"][0].double()
    nothing = [
        F.normalize(speaking.encode_texts([t.replace("{}", "")])[0].double(), dim=0) for t in templates("simple")
    ]
    empty = F.normalize(sum(nothing), dim=0)
    expected = features @ (plain.queries.embeddings[0].double() - empty)
    assert close(scores.flatten().double(), expected)


def test_names_of_one_class_are_texts_of_their_own(speaking):
    together = Segmenter(speaking, "horse|pony, sky", "clearclip+surgery", windows=WINDOWS, prompts="photo")
    apart = Segmenter(speaking, "horse, pony, sky", "clearclip+surgery", windows=WINDOWS, prompts="photo")
    a, b = (next(iter(s.logits([photo((32, 40))])))["clearclip+surgery"].maps() for s in (together, apart))
    assert torch.equal(a, b)


def test_additions_are_written_down_and_read_back():
    stages = (Pamr(steps=5, dilations=(4,)), Surgery(temperature=1.0))
    assert read(write(stages)) == stages
    assert recipe("clearclip+surgery+pamr").stages == (Surgery(), Pamr())
    assert RECIPES["clip_surgery"].stages == (Surgery(),) and set(known.ADDITIONS) >= {"pamr", "surgery"}
    with pytest.raises(UserError, match="twice"):
        recipe("clip_surgery+surgery")
    with pytest.raises(UserError, match="dilations"):
        Pamr(dilations=())
