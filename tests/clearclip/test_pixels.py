"""Every kind of picture in memory gives the same pixels, to a segmenter and to statistics."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import clearclip
from analysis import collect
from analysis.probes.images import pictures
from clearclip.entries import digest_now
from clearclip.errors import UserError
from clearclip.pixels import in_memory, is_single, opened

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), dtype=np.uint8)
TENSORS = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)  # (4, 3, H, W)


class Stream(IterableDataset):
    def __iter__(self):
        yield from TENSORS


class Dictionaries:
    """As the datasets library gives them."""

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, index):
        return {"label": 3, "image": Image.fromarray(PIXELS[index])}


def batches(**how):
    return DataLoader(TensorDataset(TENSORS / 255, torch.arange(4)), batch_size=3, **how)


SOURCES = {
    "PIL images": [Image.fromarray(pixels) for pixels in PIXELS],
    "arrays": list(PIXELS),
    "float arrays": [pixels / 255 for pixels in PIXELS],
    "a batch of arrays": PIXELS,
    "tensors": list(TENSORS),
    "float tensors": tuple(TENSORS.float() / 255),
    "a batch of tensors": TENSORS,
    "two batches": [TENSORS[:3], PIXELS[3:]],
    "a loader of images and labels": batches(),
    "a loader of images": DataLoader(TENSORS, batch_size=2),
    "a loader of dictionaries": DataLoader([{"pixel_values": pixels, "labels": 1} for pixels in TENSORS], batch_size=3),
    "a loader without length": DataLoader(Stream(), batch_size=3),
    "a data set of images and labels": TensorDataset(TENSORS, torch.arange(4)),
    "a data set of dictionaries": Dictionaries(),
    "mixed": [Image.fromarray(PIXELS[0]), PIXELS[1], TENSORS[2:]],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_gives_the_same_pictures(kind):
    named = pictures(SOURCES[kind])
    assert [picture.name for picture in named] == [f"picture {i}" for i in range(4)]
    assert np.array_equal([np.asarray(picture.read()) for picture in named], PIXELS)
    assert digest_now(named) == digest_now(pictures(PIXELS)) and digest_now(named) != digest_now(pictures(PIXELS[::-1]))
    assert np.array_equal([np.asarray(picture) for picture in opened(SOURCES[kind])], PIXELS)
    assert [picture.name for picture in pictures(SOURCES[kind], limit=2)] == ["picture 0", "picture 1"]
    assert not is_single(SOURCES[kind])


@pytest.mark.parametrize("one", [Image.fromarray(PIXELS[0]), PIXELS[0], TENSORS[0]], ids=["PIL", "array", "tensor"])
def test_one_picture(one):
    assert is_single(one)
    assert np.array_equal(np.asarray(pictures(one)[0].read()), PIXELS[0])


def test_a_loader_is_asked_for_no_more_than_is_wanted():
    asked = []

    class Counting(torch.utils.data.Dataset):
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            asked.append(index)
            return TENSORS[0]

    assert len(pictures(DataLoader(Counting(), batch_size=2), limit=3)) == 3
    assert len(asked) <= 4


def test_statistics_of_files_and_of_what_is_in_them_are_the_same(photos, tiny):
    files = sorted(photos.glob("*.png"))
    on_disk = collect(tiny, photos, progress=False)
    held = collect(tiny, [Image.open(file) for file in files], progress=False)
    assert np.array_equal(on_disk.entropy, held.entropy)
    assert held.source.values.tolist() == ["memory"] * len(files)
    mixed = collect(tiny, [files[0], PIXELS[0], "scenes"], limit=1, progress=False)
    assert mixed.image.values.tolist() == ["scene 0", "picture 0", "photo_0.png"]


def test_data_sets_are_pictures(tmp_path):
    scenes = clearclip.datasets.load("scenes", count=3)
    named = pictures(scenes)
    assert [picture.name for picture in named] == ["scenes 0", "scenes 1", "scenes 2"]
    assert np.array_equal(np.asarray(named[2].read()), np.asarray(scenes[2].image))
    assert digest_now(named) != digest_now(pictures(clearclip.datasets.load("scenes", count=3, size=32)))
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(PIXELS[0]).save(tmp_path / "images/a.png")
    Image.fromarray(PIXELS[0, ..., 0] % 2).save(tmp_path / "labels/a.png")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    folder = clearclip.datasets.load(tmp_path)
    assert [picture.name for picture in pictures(tmp_path)] == ["a.png"]  # its labels are no pictures
    assert [picture.name for picture in pictures(folder)] == ["a"]


def test_a_segmenter_takes_many_pictures_as_one_list(photos):
    segmenter = clearclip.Segmenter("clip_tiny", "apple, grass", prompts="photo")
    loader = segmenter(batches())
    assert len(loader) == 4 and np.array_equal(loader[1].labels, segmenter(PIXELS[1]).labels)
    assert len(segmenter(photos)) == 9 and segmenter(photos / "photo_0.png").labels.shape == (50, 50)


@pytest.mark.parametrize(
    "normalized", [TENSORS / 255 * 2 - 1, DataLoader(TENSORS / 64 - 2, batch_size=2), [TENSORS[0] / 50]]
)
def test_normalized_pictures_are_refused(normalized):
    for ask in (pictures, lambda source: list(opened(source))):
        with pytest.raises(UserError, match="must not be normalized yet"):
            ask(normalized)


@pytest.mark.parametrize("wrong", [5, object(), {1, 2}, len, b"abc"])
def test_what_is_no_picture_is_told_what_is(wrong):
    for ask in (pictures, lambda wrong: pictures([wrong]), lambda wrong: list(in_memory(wrong))):
        with pytest.raises(
            UserError, match=r"pictures cannot be taken from \w+: give a folder, files, PIL.*DataLoader"
        ):
            ask(wrong)


def test_dictionaries_without_a_known_key():
    with pytest.raises(UserError, match=r"dictionaries with x, y: .*pixel_values"):
        pictures(DataLoader([{"x": TENSORS[0], "y": 1}]))
