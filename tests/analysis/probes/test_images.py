"""Every picture has a name of its own, which finds it and its source again in a Dataset."""

import shutil

import numpy as np
import pytest
from layouts import ade20k
from PIL import Image

import clearclip
from analysis.probes import store
from analysis.probes.collection import collect
from analysis.probes.feature_maps import feature_maps
from analysis.probes.feature_maps import tidy as peaks
from analysis.probes.images import PHOTOGRAPHS, pictures
from analysis.probes.label_maps import label_maps
from clearclip.datasets import Sample, load
from clearclip.entries import digest_now
from clearclip.runs import results

ASTRONAUT = PHOTOGRAPHS[0]


@pytest.fixture
def folder(tmp_path):
    """A folder whose one picture is called as the first of the photographs."""
    path = tmp_path / "photos"
    path.mkdir()
    Image.new("RGB", (32, 32), "red").save(path / ASTRONAUT)
    return path


def benchmark(root, *colors):
    for name, color in zip("ab", colors, strict=False):
        ade20k(root, [0, 1])
        image = root / "ADEChallengeData2016/images/validation" / f"{name}.jpg"
        Image.new("RGB", (32, 32), color).save(image)
        shutil.copy(root / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png",
                    root / "ADEChallengeData2016/annotations/validation" / f"{name}.png")  # fmt: skip
    return f"ade20k:{root}"


def sources(tmp_path, folder):
    """Lists of sources that have equal names, and the names that their first pictures get."""
    scenes = load("scenes", count=2), load("scenes", count=2, seed=1)
    deep = tmp_path / "deep/photos"
    shutil.copytree(folder, deep)
    own = folder / "photographs"
    own.mkdir()
    shutil.copy(folder / ASTRONAUT, own)
    yield ["photographs", folder / ASTRONAUT], [f"photographs/{ASTRONAUT}", f"{folder}/{ASTRONAUT}"]
    yield ["photographs", deep], [f"photographs/{ASTRONAUT}", f"{deep}/{ASTRONAUT}"]
    yield [folder, deep], [f"{folder}/{ASTRONAUT}", f"{folder}/photographs/{ASTRONAUT}", f"{deep}/{ASTRONAUT}"]
    yield [*scenes], ["scenes/scenes 0", "scenes/scenes 1", "scenes (2)/scenes 0", "scenes (2)/scenes 1"]
    yield [scenes[0], np.zeros((4, 4, 3), np.uint8)], ["scenes 0", "scenes 1", "picture 0"]
    two = [benchmark(tmp_path / name, "red", "blue") for name in ("one", "two")]
    yield two, ["ade20k/ADE_val_00000001", "ade20k/a", "ade20k/b", "ade20k (2)/ADE_val_00000001"]
    # put in front, the source gives a name that another picture has already
    yield ["photographs", folder], [f"photographs/{ASTRONAUT}", f"{folder}/{ASTRONAUT}", f"photographs/{ASTRONAUT} (2)"]


def test_names_are_unique_whatever_the_sources_are(tmp_path, folder):
    for given, expected in sources(tmp_path, folder):
        listed = pictures(given)
        names = [picture.name for picture in listed]
        assert len(set(names)) == len(names) and set(expected) <= set(names), given
        assert [picture.name for picture in pictures(listed)] == names  # listed again they keep them


def test_names_that_are_unique_stay(folder):
    Image.new("RGB", (8, 8)).save(folder / "mine.png")
    names = {picture.name for picture in pictures([folder, "photographs"], limit=2)}
    assert {"mine.png", f"photographs/{ASTRONAUT}", f"{folder}/{ASTRONAUT}"} < names
    assert [picture.name for picture in pictures(folder)] == [ASTRONAUT, "mine.png"]


def test_each_value_lies_under_its_own_name_and_source(folder, tmp_path, tiny):
    given = ["photographs", folder]
    both = collect(tiny, given, ["entropy"], limit=1, image_size=32, progress=False)
    results.write(both, tmp_path / "both.nc")
    again = store.read(tmp_path / "both.nc")
    for source, name in zip(("photographs", str(folder)), both.image.values.tolist(), strict=True):
        alone = collect(tiny, source, ["entropy"], limit=1, image_size=32, batch_size=2, progress=False)
        cell = again.sel(image=name)
        assert cell.source.item() == source == alone.source.item()
        np.testing.assert_allclose(cell.entropy, alone.entropy.squeeze("image"), rtol=1e-4)
    assert not np.allclose(both.entropy[:, 0], both.entropy[:, 1])
    other = collect(clearclip.load("dino_tiny"), given, ["entropy"], limit=1, image_size=32, progress=False)
    merged = store.merge_models([both, other])
    assert merged.image.values.tolist() == both.image.values.tolist()
    assert merged.source.values.tolist() == ["photographs", str(folder)]


def test_a_table_has_a_row_for_each(folder, tiny):
    rows = peaks(feature_maps(tiny, pictures(["photographs", folder], limit=1), image_size=32))
    assert rows.groupby("image").size().nunique() == 1 and rows["image"].nunique() == 2


def test_samples_of_one_name_are_told_apart():
    blank = np.zeros((0, 0), np.uint8)
    samples = [Sample(Image.new("RGB", (32, 32), color), blank, "a") for color in ("red", "blue")]
    got = label_maps(clearclip.load("clip_tiny"), samples, "apple, grass", ["clip"], prompts="photo")
    assert got.image.values.tolist() == ["a", "a (2)"]


def test_the_digest_counts_sources_names_and_contents(folder):
    before = digest_now(pictures(folder))
    assert before == digest_now(pictures([folder]))
    with Image.open(folder / ASTRONAUT) as image:
        image.save(folder / "b.png")
    (folder / ASTRONAUT).unlink()
    assert digest_now(pictures(folder)) != before  # the same pixels under another name
