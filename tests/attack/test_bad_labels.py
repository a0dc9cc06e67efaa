"""Malformed label maps and data sets on disk are named and skipped, or refused before anything is measured."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from forked import clean, command
from layouts import ade20k, cityscapes, coco, context_png, voc
from material import damaged, labelled, picture_bytes
from PIL import Image

WORDS = ("--model", "clip_tiny", "--dataset", "data", "--output", "out.nc")
DOORS = {"clearclip.evaluate": ("--recipe", "clip", "--text-cache", "texts"), "analysis.prototypes": ()}
DAMAGES = 20


def save(path, values):
    Image.fromarray(values).save(path, "PNG" if values.dtype in (np.uint8, np.uint16) else "TIFF")


BAD = {  # what becomes of the label of a picture of 40 × 32
    "empty": lambda path: path.write_bytes(b""),
    "colors": lambda path: path.write_bytes(picture_bytes(1)),
    "another size": lambda path: save(path, np.zeros((31, 40), np.uint8)),
    "turned": lambda path: save(path, np.zeros((40, 32), np.uint8)),
    "unknown class": lambda path: save(path, np.full((32, 40), 7, np.uint8)),
    "16 bits": lambda path: save(path, np.full((32, 40), 60_000, np.uint16)),
    "negative": lambda path: save(path, np.full((32, 40), -1, np.int32)),
    "floats": lambda path: save(path, np.full((32, 40), 0.5, np.float32)),
    "not a number": lambda path: save(path, np.full((32, 40), np.nan, np.float32)),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a loop": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "text": lambda path: path.write_text("0 0 1 1"),
}
STRUCTURE = {  # what becomes of the folder
    "no labels": lambda root: shutil.rmtree(root / "labels"),
    "no pictures": lambda root: shutil.rmtree(root / "images"),
    "no classes": lambda root: (root / "classes.txt").unlink(),
    "empty classes": lambda root: (root / "classes.txt").write_text(""),
    "blank classes": lambda root: (root / "classes.txt").write_text("\n \n\t\n"),
    "one class twice": lambda root: (root / "classes.txt").write_text("sky\nsky\n"),
    "300 classes": lambda root: (root / "classes.txt").write_text("\n".join(f"class {i}" for i in range(300))),
    "classes in Latin-1": lambda root: (root / "classes.txt").write_bytes("ciel\nprés\n".encode("latin-1")),
    "classes in UTF-16": lambda root: (root / "classes.txt").write_bytes("sky\ngrass\n".encode("utf-16")),
    "classes of NULs": lambda root: (root / "classes.txt").write_bytes(b"sky\0\ngrass\0\n"),
    "a folder for classes": lambda root: ((root / "classes.txt").unlink(), (root / "classes.txt").mkdir()),
    "labels are a file": lambda root: (shutil.rmtree(root / "labels"), (root / "labels").write_text("x")),
    "labels of all files broken": lambda root: [path.write_bytes(b"x") for path in (root / "labels").iterdir()],
    "pictures all broken": lambda root: [path.write_bytes(b"x") for path in (root / "images").iterdir()],
    "an empty folder": lambda root: (shutil.rmtree(root), root.mkdir()),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_label_among_good_ones(door, bad, cwd):
    BAD[bad](labelled(cwd / "data") / "labels" / "good_1.png")
    ended = command(door, *WORDS, *DOORS[door], cwd=cwd)
    clean(ended)
    assert "good_1" in ended.out + ended.err


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("bad", STRUCTURE)
def test_a_folder_that_is_no_data_set(door, bad, cwd):
    STRUCTURE[bad](labelled(cwd / "data"))
    clean(command(door, *WORDS, *DOORS[door], cwd=cwd))


@pytest.mark.parametrize("bad", [*BAD, *STRUCTURE])
def test_check_names_what_is_wrong(bad, cwd):
    root = labelled(cwd / "data")
    BAD[bad](root / "labels" / "good_1.png") if bad in BAD else STRUCTURE[bad](root)
    ended = command("clearclip.datasets", "check", "folder", "data", cwd=cwd)
    clean(ended, (0, 1, 2))
    assert ended.code or bad in ("300 classes", "classes in UTF-16"), ended.out


def test_damaged_labels_among_good_ones(cwd, record_property):
    root = labelled(cwd / "data")
    content = (root / "labels" / "good_1.png").read_bytes()
    for name, data in damaged(content, 1, DAMAGES):
        (root / "labels" / f"{name}.png").write_bytes(data)
        shutil.copy(root / "images" / "good_1.png", root / "images" / f"{name}.png")
    clean(command("clearclip.evaluate", *WORDS, *DOORS["clearclip.evaluate"], cwd=cwd), (0,))
    record_property("cases", DAMAGES)


@pytest.mark.parametrize("layout", [voc, context_png, coco, cityscapes, ade20k])
@pytest.mark.parametrize("raw", [[], [0, 1, 2, 255], [254, 253], [300, 7], [-1, 0]], ids=str)
def test_strange_ids_in_a_benchmark(layout, raw, cwd):
    name = {"voc": "voc20", "context_png": "context59", "coco": "coco_stuff"}.get(layout.__name__, layout.__name__)
    try:
        layout(cwd / "data", raw)
    except (ValueError, OverflowError, SystemError, OSError):
        pytest.skip("no picture file can hold this")
    words = ("--model", "clip_tiny", "--dataset", f"{name}:data", "--text-cache", "texts", "--output", "out.nc")
    clean(command("clearclip.evaluate", *words, "--recipe", "clip", cwd=cwd))
