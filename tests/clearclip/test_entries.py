"""Entries of lists of pictures: what they were, whether they still are it, and the digest of all of them."""

import os

import numpy as np
import pytest
from PIL import Image

from clearclip import entries as module
from clearclip.contents import noted
from clearclip.datasets import Sample, load
from clearclip.datasets.entries import digest_now as data_digest
from clearclip.datasets.entries import entries, list_digest
from clearclip.entries import Entry, digest_now, is_unchanged, record, record_now
from clearclip.pictures import BadImage, read_image


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.bmp"
    Image.linear_gradient("L").save(path)
    return Entry("a.bmp", lambda: read_image(path), "mine", (path,))


def turn(path):
    """Other pixels in as many bytes."""
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_180).save(path)


def test_the_record_of_what_was_read_is_that_of_the_file_now(photo):
    with noted() as notes:
        photo.read()
    assert record(photo, notes) == record_now(photo) and is_unchanged(photo, record_now(photo))


def test_a_file_is_hashed_only_where_its_stamp_differs(photo, monkeypatch):
    before = record_now(photo)
    with monkeypatch.context() as patch:
        patch.setattr(module, "record_now", lambda entry: pytest.fail("hashed"))
        assert is_unchanged(photo, before)
    os.utime(photo.files[0], (1, 1))
    assert is_unchanged(photo, before)
    turn(photo.files[0])
    assert not is_unchanged(photo, before)
    photo.files[0].unlink()
    assert not is_unchanged(photo, before)


def test_the_record_of_a_broken_pair_has_both_files(tmp_path):
    """The label is not reached, and counts all the same."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / folder / "a.png")
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "images/a.png").write_bytes(b"broken")
    (pair,) = entries(load(tmp_path))
    with noted() as notes, pytest.raises(BadImage):
        pair.read()
    assert record(pair, notes) == record_now(pair)
    before = record_now(pair)
    Image.new("L", (4, 4), 255).save(tmp_path / "labels/a.png")
    assert not is_unchanged(pair, before)


def test_without_a_file_or_a_promise_the_pixels_tell():
    pixels = np.zeros((4, 4, 3), np.uint8)
    silent, promised = (Entry("a", lambda: Image.fromarray(pixels), "memory", promise=text) for text in ("", "zeros"))
    before = [record_now(entry) for entry in (silent, promised)]
    pixels += 1
    assert not is_unchanged(silent, before[0]) and is_unchanged(promised, before[1])
    assert record_now(promised).content != before[1].content  # what was read is what counts in the end


class Mine:
    """Somebody's data set."""

    name, classes, ignore_index, identity = "mine", ["cat", "dog"], 255, "version 1"

    def __init__(self, value=0):
        self.value = value

    def __len__(self):
        return 2

    def __getitem__(self, index):
        label = np.full((4, 4), self.value)
        return Sample(Image.new("RGB", (4, 4)), label, f"{index}.jpg")


def test_data_sets_that_differ_in_one_label_have_other_digests():
    assert data_digest(Mine()) == data_digest(Mine()) != data_digest(Mine(1))
    assert list_digest(Mine()) == list_digest(Mine(1))  # nobody knows yet
    assert data_digest(Mine(), limit=1) != data_digest(Mine())


def test_what_the_ids_of_labels_mean_counts(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / folder / "a.png")
    (tmp_path / "classes.txt").write_text("0\tcat\n")
    before = load(tmp_path), data_digest(load(tmp_path))
    (tmp_path / "classes.txt").write_text("0\tvoid\n1\tcat\n")
    assert load(tmp_path).classes == before[0].classes and data_digest(load(tmp_path)) != before[1]


def test_drawn_scenes_and_their_sizes_differ():
    assert data_digest(load("scenes", count=2)) != data_digest(load("scenes", count=2, size=32))
    assert digest_now(entries(load("scenes", count=2))) == digest_now(entries(load("scenes", count=3), limit=2))
