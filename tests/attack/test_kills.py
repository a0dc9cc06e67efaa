"""A command that is killed at random moments, and repeated, ends with the very same result and leaves nothing behind."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from forked import clean, command, start, wait_for_unfinished
from material import labelled, pictures, same_bits

MODEL = ("--model", "clip_tiny")
STATISTICS = (*MODEL, "--images", "pictures", "--batch-size", "1")
SCORES = (*MODEL, "--dataset", "data", "--batch-size", "1", "--text-cache", "texts")
COMMANDS = {
    "export": ("analysis.export", *STATISTICS, "--shard-tokens", "128", "--output", "out"),
    "entropy": ("analysis.entropy", *STATISTICS, "--output", "out/result.nc"),
    "evaluate": ("clearclip.evaluate", *SCORES, "--recipe", "clip", "clearclip", "--output", "out/result.nc"),
    "prototypes": (
        "analysis.prototypes",
        *MODEL,
        "--dataset",
        "data",
        "--batch-size",
        "1",
        "--output",
        "out/result.nc",
    ),
    "layers": ("analysis.layers", *SCORES, "--output", "out/result.nc"),
    "norms": ("analysis.norms", *STATISTICS, "--output", "out/result.nc"),
    "segment": (
        "clearclip.segment",
        "pictures",
        *MODEL,
        "--classes",
        "sky, grass",
        "--text-cache",
        "texts",
        "--output",
        "out",
    ),
}
ROUNDS = 10
KILLS = 4  # of one run, before it may finish
CODES = {signal.SIGKILL: (0, -9), signal.SIGINT: (0, 130), signal.SIGTERM: (0, 143, -15)}  # 0: it was faster


@pytest.fixture(scope="module", params=COMMANDS)
def undisturbed(request, tmp_path_factory):
    """A command, a folder with its finished result, and the seconds that it took."""
    folder = tmp_path_factory.mktemp(request.param) / "here"
    folder.mkdir()
    pictures(folder / "pictures", 6)
    labelled(folder / "data", 6)
    words = COMMANDS[request.param]
    begun = time.monotonic()
    clean(command(*words, cwd=folder), (0,))
    return words, folder, time.monotonic() - begun


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_and_repeated(seed, undisturbed, cwd, record_property):
    words, finished, seconds = undisturbed
    rng = np.random.default_rng(seed)
    for name in ("pictures", "data", "texts"):
        if (finished / name).exists():
            shutil.copytree(finished / name, cwd / name, copy_function=shutil.copy2)
    (cwd / "out").mkdir()
    kills = 0
    for _ in range(KILLS):
        number = [*CODES][rng.integers(len(CODES))]
        running = start(*words, cwd=cwd, save_every=0.0)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0.1, seconds))
        else:
            wait_for_unfinished(cwd / "out", running)
        running.signal(number)
        ended = running.ended()
        clean(ended, CODES[number])
        kills += ended.code != 0
    clean(command(*words, cwd=cwd, save_every=0.0), (0,))
    record_property("kills", kills)
    same(finished / "out", cwd / "out")


def same(finished: Path, repeated: Path) -> None:
    """Two folders of results hold the same files, hidden ones too, and the same numbers."""
    names = sorted(path.name for path in finished.iterdir())
    assert sorted(path.name for path in repeated.iterdir()) == names
    for name in names:
        if name.endswith(".nc"):
            same_bits(finished / name, repeated / name)
        else:
            assert timeless(finished / name) == timeless(repeated / name), name


def timeless(path: Path) -> bytes:
    """The bytes of a file, without the time at which a protocol was written."""
    content = path.read_bytes()
    return re.sub(rb"20\d\d-\d\d-\d\dT[\d:]{8}", b"", content) if path.stem == "protocol" else content
