"""Regions of pictures: how they are read, who takes them, and what becomes of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from clearclip import Segmenter, load
from clearclip.datasets.drawn.scenes import Scenes
from clearclip.errors import UserError
from clearclip.methods.stages import Vote
from clearclip.methods.windows import Windows
from clearclip.segmentation.regions import as_regions, read_regions, regions_of

SMALL = np.array([[0, 0, 3], [7, 7, 3]])
WINDOWS = Windows(64, 256, 64, 32)


@pytest.fixture(scope="module")
def models():
    return load("clip_tiny", device="cpu"), load("dino_tiny", device="cpu")


@pytest.fixture(scope="module")
def scene():
    """A wide picture, which is several windows."""
    scene = Scenes("test", 2, 96)[1]
    return scene._replace(image=scene.image.crop((0, 0, 96, 60)), label=scene.label[:60])


def segmenter(models, *recipes):
    proxy = models[1] if "corrclip" in recipes else None
    return Segmenter(models[0], Scenes("test", 1).classes, recipes, windows=WINDOWS, prompts="photo", proxy=proxy)


# reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [SMALL, SMALL.astype(np.uint8), torch.from_numpy(SMALL), SMALL.tolist()], ids=str)
def test_label_images(given):
    assert np.array_equal(as_regions(given), SMALL) and as_regions(given).dtype == np.int64


def test_masks_lie_over_one_another():
    masks = np.zeros((3, 4, 5), bool)
    masks[0, :3], masks[1, 1:2, 1:4], masks[2, 0, 0] = True, True, True
    expected = np.zeros((4, 5), int)
    for number, mask in enumerate(masks, 1):
        expected[mask] = number
    assert np.array_equal(as_regions(masks), expected) and np.array_equal(as_regions(torch.from_numpy(masks)), expected)


@pytest.mark.parametrize(
    "given", [SMALL / 2, SMALL[None], np.zeros((0, 4, 5), bool), np.zeros(3, int), "lost.png"], ids=str
)
def test_what_is_no_regions(given):
    with pytest.raises(UserError, match=r"label image|No such file"):
        as_regions(given)


def test_index_pictures_are_read_by_their_numbers(tmp_path):
    gray = Image.fromarray(SMALL.astype(np.uint8))
    palette = gray.convert("P")
    palette.putpalette([9] * 768)  # all colors are the same
    for name, image in {
        "gray": gray,
        "palette": palette,
        "deep": Image.fromarray((SMALL * 900).astype(np.uint16)),
    }.items():
        image.save(tmp_path / f"{name}.png")
        expected = SMALL * 900 if name == "deep" else SMALL
        assert np.array_equal(read_regions(tmp_path / f"{name}.png"), expected)
        assert np.array_equal(as_regions(image), expected)


def test_colors_are_regions_and_black_is_none(tmp_path):
    colors = np.zeros((2, 3, 3), np.uint8)
    colors[SMALL == 3], colors[SMALL == 7] = (0, 0, 200), (9, 0, 0)
    for mode in ("RGB", "RGBA"):
        Image.fromarray(colors).convert(mode).save(tmp_path / "colors.png")
        regions = read_regions(tmp_path / "colors.png")
        assert [len({*regions[label == SMALL]}) for label in (0, 3, 7)] == [1, 1, 1] and len({*regions.flat}) == 3
        assert (regions[SMALL == 0] == regions.min()).all()


def test_jpeg_and_broken_files_are_refused(tmp_path):
    Image.fromarray(SMALL.astype(np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="JPEG changes the numbers"):
        read_regions(tmp_path / "a.jpg")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"b\.png"):
        read_regions(tmp_path / "b.png")


def test_files_of_pictures(tmp_path):
    for name in ("a.png", "deep/b.tif", "c.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(SMALL.astype(np.uint8)).save(tmp_path / "in" / name)
    root = tmp_path / "in"
    assert regions_of(None, ["a"]) == {}
    assert regions_of(root, ["deep/b", "a"]) == {"deep/b": root / "deep/b.tif", "a": root / "a.png"}
    assert regions_of(root / "a.png", ["other"]) == {"other": root / "a.png"}
    with pytest.raises(UserError, match=r"no regions for d: it needs .*d\.png"):
        regions_of(root, ["a", "d"])
    with pytest.raises(UserError, match=r"regions of one picture, and there are 2"):
        regions_of(root / "a.png", ["a", "b"])
    with pytest.raises(UserError, match="no such file or folder"):
        regions_of(tmp_path / "lost", ["a"])


# what becomes of them ------------------------------------------------------------------------------------------------


def test_each_window_gets_its_part(models, scene, monkeypatch):
    """Of regions at the size of the windows; beyond the picture's border they are those at the border."""
    segment, seen = segmenter(models, "corrclip", "oracle"), []
    encode = segment.encoder.encode

    def spy(crops, norms, regions, texts, owner, truth, *more):
        seen.append((regions, truth))
        return encode(crops, norms, regions, texts, owner, truth, *more)

    monkeypatch.setattr(segment.encoder, "encode", spy)
    picture = scene.image.crop((0, 0, 90, 60))  # 64 × 96 at the windows' size
    regions = np.arange(90 * 60).reshape(60, 90)
    segment(picture, regions, -regions)
    rows, columns = (np.arange(64) * 60 / 64).astype(int), (np.arange(96) * 90 / 96).astype(int)
    whole = regions[rows][:, columns]
    cut, truth = (torch.cat(parts).numpy() for parts in zip(*seen, strict=True))
    assert np.array_equal(cut, np.stack([whole[:, :64], whole[:, 32:]])) and np.array_equal(truth, -cut)


def test_labels_with_and_without_regions(models, scene):
    segment = segmenter(models, "corrclip", "clearclip")
    with_them = segment.each(scene.image, regions=scene.label)[0]
    without = segment.each(scene.image)[0]
    assert np.array_equal(with_them["clearclip"].labels, without["clearclip"].labels)
    result, plain = with_them["corrclip"], without["corrclip"]
    assert not np.array_equal(result.scores, plain.scores)
    assert np.array_equal(result.labels, Vote()(result.scores.argmax(0), scene.label.astype(int)))
    assert np.array_equal(plain.labels, plain.scores.argmax(0))
    regions = np.unique(scene.label)
    assert all(len(np.unique(result.labels[scene.label == region])) == 1 for region in regions[1:])


def test_several_pictures_have_their_own(models, scene, tmp_path):
    segment, other = segmenter(models, "corrclip"), scene.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    Image.fromarray(scene.label).save(tmp_path / "scene.png")
    both = segment([scene.image, other], regions=[tmp_path / "scene.png", scene.label[:, ::-1].copy()])
    for result, picture, label in zip(
        both, (scene.image, other), (scene.label, scene.label[:, ::-1].copy()), strict=True
    ):
        alone = segment(picture, regions=label)
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-4)


def test_the_oracle_is_told(models, scene):
    truth = np.where(scene.label == scene.label[0, 0], 255, scene.label)  # some are not labelled
    results = segmenter(models, "oracle", "clearclip").each(scene.image, truth=truth)[0]
    assert not np.array_equal(results["oracle"].scores, results["clearclip"].scores)
    again = segmenter(models, "oracle")(scene.image, truth=np.where(truth == 255, 999, truth.astype(int)))
    assert np.array_equal(again.scores, results["oracle"].scores)


@pytest.mark.parametrize(
    ("recipe", "given", "message"),
    [
        ("oracle", {}, r"recipe oracle: it is told the true label.*clearclip evaluate"),
        ("oracle", {"truth": SMALL}, r"true labels of \(2, 3\) pixels for a picture of \(60, 96\)"),
        ("corrclip", {"regions": SMALL}, r"regions of \(2, 3\) pixels"),
        ("clearclip", {"regions": SMALL}, r"recipe clearclip: it takes no regions; corrclip does"),
    ],
)
def test_what_does_not_fit(models, scene, recipe, given, message):
    with pytest.raises(UserError, match=message):
        segmenter(models, recipe)(scene.image, **given)


def test_too_few_regions(models, scene):
    with pytest.raises(UserError, match="2 pictures and regions of 1"):
        segmenter(models, "corrclip")([scene.image] * 2, regions=[scene.label])
