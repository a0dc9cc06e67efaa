"""Environment variables, limits and streams as schedulers, containers and pipes leave them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import process
from forked import clean, command
from material import pictures

WORDS = ("analysis.entropy", "--model", "clip_tiny", "--images", "pictures", "--output", "out.nc")
VARIABLES = [
    {"WORLD_SIZE": "2"},
    {"WORLD_SIZE": "2", "RANK": "0"},
    {"WORLD_SIZE": "x"},
    {"WORLD_SIZE": ""},
    {"WORLD_SIZE": "0"},
    {"WORLD_SIZE": "-1"},
    {"RANK": "x"},
    {"RANK": ""},
    {"RANK": "-1"},
    {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "WORLD_SIZE": "4"},
    {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x.invalid", "MASTER_PORT": "y"},
    {"COLUMNS": "0"},
    {"COLUMNS": "-5"},
    {"COLUMNS": "x"},
    {"COLUMNS": "1"},
    {"TERM": "dumb"},
    {"NO_COLOR": "1"},
    {"TZ": "nowhere"},
    {"HOME": "/nonexistent"},
    {"HOME": ""},
    {"XDG_CACHE_HOME": "/proc/cache"},
    {"TMPDIR": "/nonexistent"},
    {"HF_HOME": "/nonexistent"},
    {"CUDA_VISIBLE_DEVICES": "x"},
    {"MPLBACKEND": "nonsense"},
    {"TQDM_DISABLE": "1"},
    {"TQDM_MININTERVAL": "x"},
]
AT_START = [  # what is only read when Python and the libraries start
    {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONOPTIMIZE": "2"},
    {"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"},
    {"OMP_NUM_THREADS": "0"},
    {"MPLCONFIGDIR": "/proc/mpl"},
    {"MPLBACKEND": "nonsense"},
    {"PYTHONWARNINGS": "error::UserWarning"},
]


@pytest.mark.parametrize("variables", VARIABLES, ids=str)
def test_variables(variables, cwd):
    pictures(cwd / "pictures", 2)
    clean(command(*WORDS, cwd=cwd, env=variables))


@pytest.mark.parametrize("variables", [VARIABLES[0], VARIABLES[2], {"HOME": "/nonexistent"}, {"COLUMNS": "x"}], ids=str)
@pytest.mark.parametrize(
    "door", ["clearclip.segment", "clearclip.evaluate", "analysis.prototypes", "clearclip.datasets"]
)
def test_variables_and_other_commands(door, variables, cwd):
    words = {
        "clearclip.segment": ("--output", "out"),
        "clearclip.datasets": ("check", "scenes", "--limit", "2"),
    }.get(door, ("--limit", "1", "--output", "out.nc"))
    clean(command(door, *words, cwd=cwd, env=variables))


@pytest.mark.parametrize("variables", AT_START, ids=str)
def test_variables_at_the_start(variables, cwd):
    pictures(cwd / "pictures", 1)
    root = str(Path(__file__).parents[2])
    done = process("-m", *WORDS, cwd=cwd, PYTHONPATH=root, **variables)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr", "stdin"])
@pytest.mark.parametrize("place", ["closed", "/dev/full", "gone"])
def test_streams_that_cannot_be_used(stream, place, cwd):
    """The message may be lost with its stream, the result may not."""
    number = {"stdin": 0, "stdout": 1, "stderr": 2}[stream]
    if place == "closed":
        sign = f"{number}>&-"
    elif place == "gone":
        sign = f"{number}> >(true)"
    else:
        sign = f"{number}>/dev/full"
    line = f"{sys.executable} -m clearclip.datasets list {sign}"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode in (0, 2, 141) and "Traceback" not in done.stderr and "Exception" not in done.stderr
