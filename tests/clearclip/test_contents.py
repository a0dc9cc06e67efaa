"""Contents of files are noted as they are read, and a stamp changes with every write."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from clearclip.contents import GONE, contents, note_pixels, noted, opened, pixel_digest, stamp
from clearclip.pictures import BadImage, read_image


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.bmp"
    Image.linear_gradient("L").save(path)
    return path


def test_a_picture_that_is_decoded_is_noted_with_the_hash_of_its_bytes(file):
    before = read_image(file)
    with noted() as notes:
        picture = read_image(file)
    assert notes.files == {file: (stamp(file), hashlib.sha256(file.read_bytes()).hexdigest())}
    assert np.array_equal(picture, before) and contents(file) == notes.files[file]


def test_outside_nothing_is_hashed(file, monkeypatch):
    def refuse(*args):
        raise AssertionError("hashed")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    assert read_image(file).size == (256, 256)


def test_what_cannot_be_decoded_is_noted_too(file):
    file.write_bytes(b"no picture")
    with noted() as notes, pytest.raises(BadImage):
        read_image(file)
    assert notes.files[file].sha256 == hashlib.sha256(b"no picture").hexdigest()


def test_a_file_that_is_written_while_it_is_read_is_refused(file):
    with pytest.raises(OSError, match="written while it was read"), opened(file):
        file.write_bytes(b"x")


def touched(file):
    os.utime(file, (1, 1))


def rewritten_with_its_old_time(file):
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_a_file_of_the_same_size_and_time(file):
    before, other = file.stat(), file.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [touched, rewritten_with_its_old_time, replaced_by_a_file_of_the_same_size_and_time])
def test_a_stamp_changes_with_every_write(file, change):
    before = stamp(file)
    assert stamp(file) == before
    change(file)
    assert stamp(file) != before


def test_what_is_not_there_or_no_file_has_contents_of_its_own(tmp_path):
    assert contents(tmp_path / "none") == (GONE, GONE) and stamp(tmp_path / "none") == GONE
    assert contents(tmp_path).sha256 == GONE
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert contents(tmp_path / "pipe").sha256 == GONE  # and nobody waits for a writer


def test_pixels_differ_by_shape_type_and_value():
    zeros = np.zeros((2, 6), np.uint8)
    given = [(zeros,), (zeros.reshape(3, 4),), (zeros.astype(np.int8),), (zeros + 1,), (zeros, zeros), (zeros, "a")]
    assert len({pixel_digest(*parts) for parts in given}) == len(given)
    assert pixel_digest(Image.fromarray(zeros)) == pixel_digest(zeros)
    with noted() as notes:
        note_pixels(zeros)
    note_pixels(zeros)
    assert notes.pixels == [pixel_digest(zeros)]
