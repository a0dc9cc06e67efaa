"""Of two runs that would write one output the second is refused before it computes; a killed one holds nothing."""

import signal
import subprocess
import sys
import time

import pytest
from commands import files, here

from clearclip.errors import UserError
from clearclip.runs.reservation import reserved

HOLD = """
import sys, time
from pathlib import Path
from clearclip.runs.reservation import reserved
with reserved(Path(sys.argv[1])):
    Path("held").touch()
    time.sleep(100)
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds results/entropy.nc."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, "results/entropy.nc"], cwd=tmp_path)
    while not (tmp_path / "held").exists():
        assert holder.poll() is None
        time.sleep(0.05)
    yield holder
    holder.kill()
    holder.wait()


def test_the_second_run_is_refused_until_the_first_has_ended(other, tmp_path, monkeypatch):
    def load(*_):
        raise AssertionError("a model is loaded")

    with monkeypatch.context() as patch:
        patch.setattr("clearclip.models.load.load", load)
        done = here("analysis.entropy", "--model", "clip_tiny", cwd=tmp_path)
    assert done.returncode == 2 and "another run is writing results/entropy.nc. Wait" in done.stderr
    with reserved(tmp_path / "results" / "other.nc"):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with reserved(tmp_path / "results" / "entropy.nc"):
        pass
    assert files(tmp_path) == ["held"]


def test_an_error_lets_go(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), reserved(tmp_path / "a.nc"):
            with pytest.raises(UserError, match="another run"), reserved(tmp_path / "a.nc"):
                pass
            raise KeyboardInterrupt
    assert files(tmp_path) == []


def test_folders_that_were_made_for_nothing_are_gone_afterwards(tmp_path):
    with reserved(tmp_path / "a" / "b" / "result.nc"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with reserved(tmp_path / "a" / "b" / "result.nc"):
        (tmp_path / "a" / "kept.txt").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept.txt"]
