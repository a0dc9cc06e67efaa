"""A disk without space: one message, nothing half written, and the same command completes as soon as there is some."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from forked import clean, command
from material import labelled, pictures
from test_kills import COMMANDS, same

SIZES = [4_096, 8_000, 16_000, 32_000, 64_000, 128_000]  # what is printed has to fit
HALF_WRITTEN = (".tmp",)


@pytest.fixture(scope="module", params=COMMANDS)
def finished(request, tmp_path_factory):
    """A command, and a folder with its material and result."""
    folder = tmp_path_factory.mktemp(request.param) / "here"
    folder.mkdir()
    pictures(folder / "pictures", 3)
    labelled(folder / "data", 4)
    clean(command(*COMMANDS[request.param], cwd=folder), (0,))
    return COMMANDS[request.param], folder


def material(folder: Path, cwd: Path) -> None:
    for name in ("pictures", "data"):
        shutil.copytree(folder / name, cwd / name, copy_function=shutil.copy2)
    (cwd / "out").mkdir()


@pytest.mark.parametrize("size", SIZES)
def test_files_that_cannot_grow(size, finished, cwd):
    words, folder = finished
    material(folder, cwd)
    clean(command(*words, cwd=cwd, file_size=size, save_every=0.0))
    assert not [path for path in (cwd / "out").iterdir() if path.name.endswith(HALF_WRITTEN)]
    clean(command(*words, cwd=cwd), (0,))
    same(folder / "out", cwd / "out")


@pytest.fixture
def small_disk(cwd):
    """A function that makes out/ a disk of so many bytes; skipped where mounting is not permitted."""
    mounted = []

    def mount(size):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", cwd / "out"], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        mounted.append(cwd / "out")

    yield mount
    for place in mounted:
        subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount here")
@pytest.mark.parametrize("pages", [1, 4, 10])
def test_a_small_disk(pages, finished, cwd, small_disk):
    words, folder = finished
    material(folder, cwd)
    small_disk(pages * os.sysconf("SC_PAGE_SIZE"))
    clean(command(*words, cwd=cwd, save_every=0.0))
    subprocess.run(["mount", "-o", "remount,size=100m", cwd / "out"], check=True)
    clean(command(*words, cwd=cwd), (0,))
    same(folder / "out", cwd / "out")


@pytest.mark.parametrize("place", ["file", "missing parent is a file", "read-only", "/proc", "/dev/null"])
@pytest.mark.parametrize("name", COMMANDS)
def test_places_that_cannot_be_written(name, place, cwd):
    """Found before anything is computed, so that nothing is lost."""
    pictures(cwd / "pictures", 2)
    labelled(cwd / "data", 2)
    words = list(COMMANDS[name])
    out = Path(words[-1])
    if place == "file":
        (cwd / "out").write_text("x")
    elif place == "missing parent is a file":
        (cwd / "x").write_text("x")
        out = Path("x") / out
    elif place == "read-only":
        out = Path("/sys") / out
    else:
        out = Path(place) / out
    clean(command(*words[:-1], out, cwd=cwd), (2,))
