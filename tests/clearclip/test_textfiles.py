"""Text files as editors save them, and names that are not text."""

import codecs
import os

import pytest
from commands import here
from hypothesis import given, settings
from hypothesis import strategies as st

from clearclip.datasets.folder import read_classes
from clearclip.errors import UserError
from clearclip.textfiles import read_lines, read_text, readable

CLASSES = "straße\n\ncafé au lait\n海\n"
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
MARKED = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_same_lines_in_every_encoding(tmp_path, encoding, end):
    file = tmp_path / "classes.txt"
    file.write_bytes(CLASSES.replace("\n", end).encode(encoding))
    assert read_lines(file) == ["straße", "café au lait", "海"]
    assert list(read_classes(file).values()) == ["straße", "café au lait", "海"]


@pytest.mark.parametrize("encoding", MARKED)
def test_the_mark_tells_the_order_of_bytes(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(MARKED[encoding] + CLASSES.encode(encoding))
    assert read_text(tmp_path / "a.txt") == CLASSES


NO_TEXT = {
    "Latin-1": (CLASSES.replace("海", "").encode("latin-1"), r"byte 4 is not text in UTF-8"),
    "Latin-1 behind a mark": (codecs.BOM_UTF8 + b"stra" + b"\xdfe", "byte 7 is not text in UTF-8"),
    "half a UTF-16": ("ab".encode("utf-16")[:-1], "is not text in UTF-16"),
    "UTF-16 without its mark": ("ab".encode("utf-16-le"), "is a NUL"),
    "NULs": (b"sky\0sea\n", "character 3 is a NUL"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "byte 0 is not text"),
}


@pytest.mark.parametrize("case", NO_TEXT)
def test_no_text_is_one_message(tmp_path, case):
    content, message = NO_TEXT[case]
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        read_text(file)
    assert str(file) in str(raised.value) and "UTF-8" in str(raised.value)
    done = here("clearclip.segment", "--model", "clip_tiny", "--prompts", file, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {file}")
    own = tmp_path / "own"
    for part in ("images", "labels"):
        (own / part).mkdir(parents=True)
    (own / "classes.txt").write_bytes(content)
    done = here("clearclip.evaluate", "--dataset", own, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {own / 'classes.txt'}")


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60))
def test_any_bytes_are_text_or_one_message(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("any") / "classes.txt"
    file.write_bytes(content)
    for read in (read_text, read_classes):
        try:
            read(file)
        except UserError as error:
            assert str(file) in str(error)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"lost\.txt: no such text file"):
        read_text(tmp_path / "lost.txt")


@pytest.mark.parametrize("content", ["sky\nsea\nSky", "background\nsky\nbackground", "0\tsky\n1\tsky"])
def test_a_class_twice_is_refused(tmp_path, content):
    own = tmp_path / "own"
    for part in ("images", "labels"):
        (own / part).mkdir(parents=True)
    (own / "classes.txt").write_text(content)
    done = here("analysis.prototypes", "--model", "dino_tiny", "--dataset", own, cwd=tmp_path)
    assert done.returncode == 2 and "stands for two classes" in done.stderr


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_any_name_becomes_text(name):
    readable(os.fsdecode(name)).encode()
