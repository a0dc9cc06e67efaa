"""Malformed pictures are named and skipped or read as what they show, and the others count as if they were alone."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import xarray as xr
from forked import clean, command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from material import FORMATS, damaged, picture_bytes, pictures
from PIL import Image

from clearclip.pictures import BadImage, find_images, read_image

# one picture at a time: on some processors the bits of a picture depend on how many go through the model with it
WORDS = ("analysis.entropy", "--model", "clip_tiny", "--images", "pictures", "--batch-size", "1", "--output", "out.nc")
DAMAGES = 20  # of each format
CASES = [(end, i) for end in FORMATS for i in range(DAMAGES)]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


STRANGE = {  # what lies in a folder of pictures → whether it can be used
    "empty.png": lambda path: path.write_bytes(b""),
    "zeros.jpg": lambda path: path.write_bytes(bytes(4096)),
    "text.png": lambda path: path.write_text("no picture"),
    "page.jpg": lambda path: path.write_text("<html><script>alert(1)</script></html>"),
    "bomb.png": lambda path: path.write_bytes(bomb(60_000, 60_000)),
    "wide.png": lambda path: path.write_bytes(bomb(2**31 - 1, 1)),
    "strip.png": lambda path: Image.new("RGB", (4000, 2)).save(path),
    "pixel.png": lambda path: Image.new("RGB", (1, 1)).save(path),
    "a_jpeg.png": lambda path: path.write_bytes(picture_bytes(9, "JPEG")),
    "folder.png": lambda path: path.mkdir(),
    "pipe.png": lambda path: os.mkfifo(path),
    "loop.png": lambda path: path.symlink_to(path.name),
    "nowhere.png": lambda path: path.symlink_to("nowhere"),
    "locked.png": lambda path: (path.write_bytes(b"x"), path.chmod(0)),
    "device.png": lambda path: path.symlink_to("/dev/zero"),
    "new\nline.png": lambda path: path.write_bytes(picture_bytes(9)),
    "$\\frac$ <b>&.png": lambda path: path.write_bytes(picture_bytes(9)),
    "x" * 200 + ".png": lambda path: path.write_bytes(picture_bytes(9)),
    "سماء 天空.png": lambda path: path.write_bytes(picture_bytes(9)),
    os.fsdecode(b"latin-\xe9.png"): lambda path: path.write_bytes(picture_bytes(9)),
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The result of the good pictures alone."""
    folder = tmp_path_factory.mktemp("alone") / "here"
    pictures(folder / "pictures")
    clean(command(*WORDS, cwd=folder), (0,))
    return folder / "out.nc"


def compare(alone: Path, mixed: Path) -> list[str]:
    """The good pictures' values are the same bits beside others; returns the names of all."""
    with xr.open_dataset(alone, engine="h5netcdf") as good, xr.open_dataset(mixed, engine="h5netcdf") as all_:
        names = all_.image.values.tolist() if "image" in all_ else []
        if names:
            places = [names.index(name) for name in good.image.values.tolist()]
            for name in good.data_vars:
                if "image" in good[name].dims:
                    assert good[name].values.tobytes() == all_[name].isel(image=places).values.tobytes(), name
        return names


@pytest.mark.parametrize("name", STRANGE)
def test_strange_files_beside_good_ones(name, alone, cwd):
    pictures(cwd / "pictures")
    STRANGE[name](cwd / "pictures" / name)
    ended = command(*WORDS, cwd=cwd)
    clean(ended, (0,))
    compare(alone, cwd / "out.nc")


@pytest.mark.parametrize(
    "door", ["clearclip.segment", "analysis.similarity", "analysis.attention", "clearclip.datasets"]
)
@pytest.mark.parametrize("name", [*STRANGE][:14])
def test_strange_files_alone(door, name, cwd):
    """Nothing else is there, so the command either shows the picture or says that there is none."""
    folder = cwd / "pictures"
    if door == "clearclip.datasets":
        folder = cwd / "data" / "images"
        (cwd / "data" / "labels").mkdir(parents=True)
        (cwd / "data" / "classes.txt").write_text("sky\ngrass\n")
        Image.new("L", (1, 1)).save(cwd / "data" / "labels" / f"{Path(name).stem}.png")
    folder.mkdir(parents=True, exist_ok=True)
    STRANGE[name](folder / name)
    words = {
        "clearclip.segment": ("pictures", "--classes", "sky, grass", "--model", "clip_tiny", "--output", "out"),
        "clearclip.datasets": ("check", "folder", "data"),
    }.get(door, ("--model", "clip_tiny", "--images", "pictures", "--output", "out.nc"))
    clean(command(door, *words, cwd=cwd), (0, 1, 2) if door == "clearclip.datasets" else (0, 2))


@pytest.mark.parametrize("end", FORMATS)
def test_damaged_pictures_beside_good_ones(end, alone, cwd, record_property):
    folder = pictures(cwd / "pictures")
    content = picture_bytes(7, FORMATS[end])
    bad = dict(damaged(content, len(end), DAMAGES))
    for name, data in bad.items():
        (folder / f"{name}.{end}").write_bytes(data)
    ended = command(*WORDS, cwd=cwd)
    clean(ended, (0,))
    used = compare(alone, cwd / "out.nc")
    told = ended.out + ended.err
    for name in bad:
        assert not used or f"{name}.{end}" in used or f"{name}.{end}" in told, f"{name}.{end} is neither used nor named"
    record_property("cases", len(bad))


@pytest.mark.parametrize("end", FORMATS)
def test_any_damage_is_named_or_read(end, tmp_path, whole, record_property):
    """Not through a command but through the one function that reads pictures, so that many can be tried."""
    content, path, count = picture_bytes(3, FORMATS[end]), tmp_path / f"picture.{end}", 200 if whole else 20

    @settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck], database=None)
    @given(st.integers(0, 2**31))
    def attack(seed):
        for _, data in damaged(content, seed, 5):
            path.write_bytes(data)
            try:
                assert read_image(path).mode == "RGB"
            except BadImage as error:
                assert path.name in str(error)

    attack()
    record_property("cases", count)


def test_a_loop_of_folders_ends(cwd):
    pictures(cwd / "pictures")
    (cwd / "pictures" / "again").symlink_to(cwd / "pictures", target_is_directory=True)
    assert len(find_images(cwd / "pictures")) == 4
    ended = command(
        "clearclip.segment", "pictures", "--classes", "sky", "--model", "clip_tiny", "--output", "out", cwd=cwd
    )
    clean(ended, (0, 2))


def test_a_picture_that_becomes_another_while_it_is_read(cwd):
    """The file is gone when its turn comes: it is named, not mixed up."""
    pictures(cwd / "pictures")
    shutil.copy(cwd / "pictures" / "good_0.png", cwd / "gone.png")
    (cwd / "pictures" / "link.png").symlink_to(cwd / "gone.png")
    (cwd / "gone.png").unlink()
    ended = command(*WORDS, cwd=cwd)
    clean(ended, (0,))
    assert "link.png" in ended.out + ended.err
