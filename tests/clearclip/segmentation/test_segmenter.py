import importlib.resources

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.filters import threshold_otsu

from clearclip import load
from clearclip.errors import UserError
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.windows import Windows
from clearclip.pictures import BadImage
from clearclip.pixels import as_picture
from clearclip.segmentation.labelling import class_scores
from clearclip.segmentation.overlay import palette
from clearclip.segmentation.result import Segmentation
from clearclip.segmentation.segmenter import Segmenter
from clearclip.segmentation.text import embed

CLASSES = "woman|astronaut, rocket, flag"
WHOLE = Windows(64, 256, 64, 32)  # a square picture is one window


@pytest.fixture(scope="module")
def model(tiny_clip):
    backbone = load(tiny_clip, random=True, device="cpu")
    for name, parameter in backbone.model.visual.named_parameters():  # patches that differ, and noise on every bias
        if parameter.ndim == 1:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.2)
    return backbone


def astronaut():
    return importlib.resources.files("skimage.data") / "astronaut.png"


@pytest.fixture(scope="module")
def photo():
    """A real photograph of 120 × 120 pixels, and so quick to draw."""
    with Image.open(astronaut()) as image:
        return image.convert("RGB").resize((120, 120))


def segmenter(model, classes=CLASSES, recipe="clearclip", windows=WHOLE, **options):
    return Segmenter(model, classes, recipe, windows=windows, prompts="photo", **options)


@pytest.fixture(scope="module")
def result(model, photo):
    return segmenter(model)(photo)


# what comes out ------------------------------------------------------------------------------------------------------


def by_hand(model, photo, classes=CLASSES, recipe="clearclip", side=64):
    """One window, no batch: resized, normalised, encoded; cosines enlarged twice, ×50, softmax over all names."""
    queries = embed(model, classes, "photo")
    pixels = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[None].float()
    pixels = F.interpolate(pixels, (side, side), mode="bilinear").round() / 255
    mean, std = (torch.tensor(model.preprocessing[key])[:, None, None] for key in ("mean", "std"))
    (features,) = DenseEncoder(model, [recipe])((pixels - mean) / std).values()
    cosines = (features[0] @ queries.embeddings.T).T.reshape(1, -1, side // 8, side // 8)
    cosines = F.interpolate(F.interpolate(cosines, (side, side), mode="bilinear"), photo.size[::-1], mode="bilinear")[0]
    names = (50 * cosines).softmax(0)
    owners = queries.owner.tolist()
    return torch.stack([max_of(names, owners, i) for i in range(len(queries.classes))]).numpy()


def max_of(names, owners, which):
    return torch.stack([name for name, owner in zip(names, owners, strict=True) if owner == which]).max(0).values


@pytest.mark.parametrize("recipe", ["clip", "clearclip", "segearth_ov"])
def test_scores_and_labels_against_a_plain_computation(model, photo, recipe):
    ours, expected = segmenter(model, recipe=recipe)(photo), by_hand(model, photo, recipe=recipe)
    assert ours.scores.shape == (3, 120, 120) and ours.scores.dtype == np.float32
    assert np.abs(ours.scores - expected).max() < 1e-4
    assert np.array_equal(ours.labels, ours.scores.argmax(0)) and ours.labels.dtype == np.uint8
    top = np.sort(expected, 0)
    clear = top[-1] - top[-2] > 1e-3
    assert clear.mean() > 0.8 and np.array_equal(ours.labels[clear], expected.argmax(0)[clear])


def test_the_result_says_what_it_is(result, photo):
    assert result.classes == ("woman", "rocket", "flag") and result.recipe == "clearclip"
    assert result.model == "open_clip:tiny" and result.random_weights and result.threshold == "none"
    assert result.picture.size == photo.size
    assert list(result.shares) == ["woman", "rocket", "flag"] and sum(result.shares.values()) == pytest.approx(1)
    assert result.shares["rocket"] == np.mean(result.labels == 1)


def test_scores_add_to_1_at_most_and_a_class_takes_its_best_name(model, photo):
    joined = segmenter(model, "woman|astronaut, rocket|ship|missile, flag")(photo).scores
    alone = segmenter(model, "woman, astronaut, rocket, ship, missile, flag")(photo).scores
    assert np.allclose(alone.sum(0), 1, atol=1e-5)
    assert joined.sum(0).max() < 1 and joined.min() >= 0
    expected = [alone[:2].max(0), alone[2:5].max(0), alone[5]]
    assert np.allclose(joined, expected, atol=1e-6)


def test_class_scores_on_numbers():
    cosines = torch.tensor([0.01, 0.03, 0.02, 0.0]).expand(5, 3, 4)
    scores = class_scores(50 * cosines, torch.tensor([0, 0, 1, 2]), 3)
    e = np.exp(50 * np.array([0.01, 0.03, 0.02, 0.0]))
    assert scores.shape == (5, 3, 3)
    assert scores[2, 1].tolist() == pytest.approx((e / e.sum())[1:].tolist())


def test_several_recipes_equal_each_alone(model, photo):
    names = ["clip", "clearclip", "gem+clearclip"]
    (together,) = segmenter(model, recipe=names).each(photo)
    assert list(together) == names
    for name in names:
        assert np.array_equal(together[name].scores, segmenter(model, recipe=name)(photo).scores)


def test_windows_of_several_pictures_equal_one_by_one(model, photo):
    pictures = [photo, photo.crop((0, 0, 120, 50)), photo.crop((0, 0, 33, 90)), photo.crop((0, 0, 7, 5))]
    small = segmenter(model, windows=Windows(48, 128, 32, 16), batch_size=3)
    for ours, picture in zip(small(pictures), pictures, strict=True):
        assert ours.labels.shape == picture.size[::-1]
        assert np.allclose(ours.scores, small(picture).scores, atol=1e-5)


# what goes in --------------------------------------------------------------------------------------------------------


def forms(photo, folder):
    path = folder / "photo.png"
    photo.save(path)
    array = np.asarray(photo).copy()
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    return [
        path,
        str(path),
        photo,
        photo.convert("RGBA"),
        array,
        array / 255,
        (array / 255).astype(np.float32),
        array.astype(np.int64),
        tensor,
        tensor.float() / 255,
        tensor.to(torch.int32),
    ]


def test_every_kind_of_picture_gives_the_same(model, photo, result, tmp_path):
    work = segmenter(model)
    for given in forms(photo, tmp_path):
        assert np.array_equal(np.asarray(as_picture(given)), np.asarray(photo))
    for given in forms(photo, tmp_path)[::4]:
        assert np.array_equal(work(given).labels, result.labels)


def test_a_list_gives_a_list_in_its_order(model, photo, result, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    results = segmenter(model)([photo.rotate(90), path, np.asarray(photo)])
    assert isinstance(results, list) and len(results) == 3
    assert not np.array_equal(results[0].scores, results[1].scores)
    assert all(np.allclose(one.scores, result.scores, atol=1e-5) for one in results[1:])
    assert isinstance(segmenter(model)([photo])[0], Segmentation) and segmenter(model)([]) == []


def test_grey_pictures_become_three_equal_channels():
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for given in (grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        assert np.array_equal(np.asarray(as_picture(given)), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, 4, 5, 3), np.uint8),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros(7, np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        torch.zeros(2, 4, 5),
        torch.zeros(5, 6, 3),
        torch.zeros(1, 3, 4, 5),
    ],
    ids=lambda wrong: str(tuple(wrong.shape)),
)
def test_shapes_that_are_no_picture(wrong):
    with pytest.raises(UserError, match=r"array \(H, W, 3\) or a tensor \(3, H, W\), not .*" + str(wrong.shape[0])):
        as_picture(wrong)


@pytest.mark.parametrize("wrong", [None, 5, {"a": 1}])
def test_things_that_are_no_picture(wrong):
    with pytest.raises(UserError, match=r"array \(H, W, 3\)"):
        as_picture(wrong)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, np.inf])
def test_floats_outside_0_to_1(value):
    with pytest.raises(UserError, match=r"in \[0, 1\]"):
        as_picture(np.full((4, 5, 3), value))


@pytest.mark.parametrize("value", [-1, 256])
def test_whole_numbers_outside_0_to_255(value):
    with pytest.raises(UserError, match="0 … 255"):
        as_picture(np.full((4, 5, 3), value))


def test_a_file_that_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(BadImage, match=r"a\.jpg"):
        as_picture(tmp_path / "a.jpg")


def test_16_bit_and_transparent_pictures_are_read_as_from_a_file(tmp_path):
    deep = Image.fromarray((np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8))
    clear = Image.fromarray(np.dstack([np.zeros((8, 8, 3), np.uint8), np.tile(np.uint8([0, 255]), (8, 4))]))
    for i, picture in enumerate((deep, clear)):
        picture.save(tmp_path / f"{i}.png")
        assert np.array_equal(np.asarray(as_picture(picture)), np.asarray(as_picture(tmp_path / f"{i}.png")))


# background and threshold --------------------------------------------------------------------------------------------


def test_background_is_the_first_class_and_also_a_query(model, photo):
    ours = segmenter(model, "rocket, flag", background=True)(photo)
    assert ours.classes == ("background", "rocket", "flag") and ours.scores.shape[0] == 3
    named = segmenter(model, "background|other, rocket", background=True)(photo)
    assert named.classes == ("background", "rocket")
    assert np.array_equal(ours.scores, segmenter(model, "background, rocket, flag")(photo).scores)


def test_contrast_words_compete_and_what_they_win_is_background(model, photo):
    ours = segmenter(model, "rocket", contrast="sky, ground")(photo)
    words = segmenter(model, "sky|ground, rocket")(photo)
    assert ours.classes == ("background", "rocket")
    assert np.array_equal(ours.labels, words.labels) and np.array_equal(ours.scores, words.scores)
    wider = segmenter(model, "background|other, rocket", contrast=["sky"], threshold=0.5)(photo)
    assert np.array_equal(wider.scores, segmenter(model, "background|other|sky, rocket")(photo).scores)
    assert wider.threshold != "none"


@pytest.mark.parametrize(
    ("classes", "contrast"), [("rocket", "sky, rocket"), ("rocket, background", "sky"), ("rocket", ", sky")]
)
def test_contrast_words_that_are_none(model, classes, contrast):
    with pytest.raises(UserError, match=r"contrast|needs a name"):
        segmenter(model, classes, contrast=contrast)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 1.0])
def test_a_threshold_turns_unsure_pixels_into_background(model, photo, threshold):
    plain = segmenter(model, background=True)(photo)
    ours = segmenter(model, background=True, threshold=threshold)(photo)
    expected = np.where(plain.scores.max(0) < threshold, 0, plain.scores.argmax(0))
    assert np.array_equal(ours.labels, expected) and np.array_equal(ours.scores, plain.scores)
    assert f"below {threshold:g} are background" in ours.threshold


def test_the_automatic_threshold_is_otsus_and_says_so(model, photo):
    plain = segmenter(model, background=True)(photo)
    ours = segmenter(model, background=True, threshold="auto")(photo)
    best = plain.scores.max(0)
    level = threshold_otsu(best)
    assert np.array_equal(ours.labels, np.where(best < level, 0, plain.labels))
    assert 0.05 < (best < level).mean() < 0.95
    for words in ("auto", f"{level:.3f}", "Otsu", f"{best.min():.3f} … {best.max():.3f}", "background"):
        assert words in ours.threshold


def test_the_automatic_threshold_of_equal_scores(model, photo, monkeypatch):
    monkeypatch.setattr(
        "clearclip.segmentation.scoremaps.best_score", lambda cosines: torch.full(cosines.shape[:2], 0.25)
    )
    ours = segmenter(model, background=True, threshold="auto")(photo)
    assert "same best score" in ours.threshold


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "otsu", "0.5", None])
def test_a_threshold_that_is_none(model, threshold):
    with pytest.raises(UserError, match=r"between 0 and 1"):
        segmenter(model, background=True, threshold=threshold)


@pytest.mark.parametrize("threshold", [0.5, "auto"])
def test_a_threshold_needs_a_background(model, threshold):
    with pytest.raises(UserError, match="background=True"):
        segmenter(model, threshold=threshold)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "a,,b"}, "each class needs a name"),
        ({"recipe": "cleraclip"}, "Closest: clearclip"),
        ({"recipe": "proxyclip"}, "second model"),
        ({"classes": "a, background", "background": True}, "each class once"),
    ],
)
def test_other_mistakes(model, options, message):
    with pytest.raises(UserError, match=message):
        segmenter(model, **options)


# files ---------------------------------------------------------------------------------------------------------------


def test_saved_files(result, tmp_path):
    written = result.save(tmp_path / "out", "deep/photo")
    assert written == [tmp_path / "out" / "deep" / name for name in ("photo.png", "photo.npz", "photo_overlay.png")]
    with Image.open(written[0]) as image:
        assert image.mode == "P" and np.array_equal(np.asarray(image), result.labels)
        colors = (palette(3) * 255).round().astype(np.uint8)
        assert np.array_equal(np.asarray(image.convert("RGB")), colors[result.labels])
        assert "random" in str(image.info).lower()
    with np.load(written[1]) as saved:
        assert np.array_equal(saved["labels"], result.labels)
        assert np.abs(saved["scores"] - result.scores).max() < 1e-3
        assert tuple(saved["classes"]) == result.classes and saved["recipe"] == "clearclip"
        assert saved["model"] == "open_clip:tiny" and saved["random_weights"] and saved["threshold"] == "none"
    with Image.open(written[2]) as image:
        assert min(image.size) > 200
