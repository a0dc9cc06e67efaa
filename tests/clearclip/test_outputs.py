"""Files appear complete or not at all, also on a full disk, and a place that takes none is found at once."""

import os
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from commands import files, here

from clearclip import outputs
from clearclip.errors import UserError
from clearclip.runs import results

DEAD = 2**30  # more than any process number


@pytest.fixture
def full():
    """A disk that takes files of 1000 bytes, which is how a limit of the system shows itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def nobody():
    """A folder that this process cannot write into, whoever started it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    shutil.rmtree(folder)


def test_a_full_disk_leaves_what_was_there_and_one_message(full, tmp_path):
    path = tmp_path / "a.csv"
    outputs.write(path, "few, ü")
    with pytest.raises(outputs.Unwritable, match=r"a\.csv cannot be written: File too large\. Make room and repeat"):
        outputs.write(path, "many" * 1000)
    assert files(tmp_path) == ["a.csv"] and path.read_text("utf-8") == "few, ü"


def test_a_dataset_on_a_full_disk_is_a_message_and_no_fault_of_hdf5(full, tmp_path):
    with pytest.raises(UserError, match="Make room"):
        results.write(xr.Dataset({"x": ("i", np.zeros(10_000))}), tmp_path / "a.nc")
    assert files(tmp_path) == []


def test_a_dataset_comes_back_as_it_was(tmp_path):
    rng = np.random.default_rng(0)
    dataset = xr.Dataset(
        {"x": (("i", "j"), rng.random((3, 4)).astype(np.float32), {"units": "1"}), "n": 3, "ok": ("i", [True, False, True])},
        {"i": ["a", "ü", ""], "k": ("j", np.arange(4))},
        {"skipped": "[]", "count": 3},
    )  # fmt: skip
    results.write(dataset, tmp_path / "deep" / "a.nc")
    assert results.read(tmp_path / "deep" / "a.nc").identical(dataset)


def test_what_killed_writers_left_is_removed_by_the_next_one(tmp_path):
    dead, lives, other = (f".{name}.tmp" for name in (f"a.nc.{DEAD}", f"a.nc.{os.getppid()}", f"b.nc.{DEAD}"))
    for name in (dead, lives, other):
        (tmp_path / name).touch()
    outputs.write(tmp_path / "a.nc", b"content")
    assert files(tmp_path) == sorted([lives, other, "a.nc"])


def test_a_place_that_takes_files_is_not_touched(tmp_path):
    outputs.refuse_unwritable(tmp_path / "new" / "deep" / "a.nc", tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_none_is_refused(tmp_path):
    (tmp_path / "a.nc").mkdir()
    (tmp_path / "b").touch()
    with pytest.raises(UserError, match=r"a\.nc is a folder"):
        outputs.refuse_unwritable(tmp_path / "a.nc")
    with pytest.raises(UserError, match=r"b/a\.nc cannot be written: Not a directory"):
        outputs.refuse_unwritable(tmp_path / "b" / "a.nc")


def test_a_folder_without_permission_is_refused(nobody):
    with pytest.raises(UserError, match=r"a\.nc cannot be written: Permission denied\. Choose another place"):
        outputs.refuse_unwritable(nobody / "new" / "a.nc")


COMMANDS = {
    "analysis.entropy": ("--output", "{bad}/a.nc"),
    "analysis.attention": ("--figure", "{bad}/a.png"),
    "analysis.export": ("--output", "{bad}"),
    "clearclip.evaluate": ("--output", "{bad}/a.nc"),
    "clearclip.segment": ("--output", "{bad}"),
    "clearclip.datasets": ("check", "scenes", "--sheet", "{bad}/a.png"),
    "clearclip.zoo.train_clip": ("--folder", "{bad}"),
    "clearclip.zoo.train_dino": ("--folder", "{bad}"),
    "clearclip.zoo.study": ("--folder", "{bad}"),
    "figures": ("--output", "{bad}"),
    "figures.__main__": ("--results", "{bad}"),
}


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_finds_that_out_before_it_computes(module, tmp_path, monkeypatch):
    def computed(*_, **__):
        raise AssertionError("something is computed")

    monkeypatch.setattr("clearclip.models.load.load", computed)
    monkeypatch.setattr("torch.utils.data.DataLoader.__iter__", computed)
    (tmp_path / "file").touch()
    done = here(module, *(word.format(bad="file") for word in COMMANDS[module]), cwd=tmp_path)
    assert done.returncode == 2 and "cannot be written: Not a directory" in done.stderr, done.stderr
    assert files(tmp_path) == ["file"]
