"""Sizes that cannot fit are refused before the first picture, with one that can."""

import re
import subprocess
import sys

import pytest
import torch
from commands import files, here

import clearclip
from clearclip.errors import UserError
from clearclip.models import memory

GIB = 2**30


@pytest.fixture(scope="module")
def model():
    return clearclip.load("clip_tiny", device="cpu")


DOORS = {
    "statistics": ("analysis.entropy", "--image-size"),
    "attention": ("analysis.attention", "--image-size"),
    "similarity": ("analysis.similarity", "--image-size"),
    "feature maps": ("analysis.featuremaps", "--image-size"),
    "segmentation": ("clearclip.segment", "--image-size"),
    "prototypes": ("analysis.prototypes", "--short-side"),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_what_cannot_fit_and_says_what_can(door, tmp_path):
    module, option = DOORS[door]
    words = ("--model", "clip_tiny", "--device", "cpu", option, "1000000", "--limit", "2")
    done = here(module, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert re.search(r"image size 1000000: .* GiB are free\. Up to \d+ may fit", done.stderr)
    assert not [name for name in files(tmp_path) if not name.startswith("results/segment")]


def test_the_size_that_may_fit_does_and_the_next_one_does_not(model, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: GIB)
    with pytest.raises(UserError, match=r"a batch of 8 pictures.*at this batch size") as raised:
        memory.refuse_too_large(model, 8000, batch=8)
    fits = int(re.search(r"Up to (\d+)", str(raised.value)).group(1))
    assert fits % model.patch_size == 0
    memory.refuse_too_large(model, fits, batch=8)
    for batch, attention in ((8, True), (9, False)):
        with pytest.raises(UserError):
            memory.refuse_too_large(model, fits + model.patch_size, batch, attention)
    with pytest.raises(UserError, match="No size fits"):
        monkeypatch.setattr(memory, "free", lambda device: 1)
        memory.refuse_too_large(model, None)


def test_where_the_free_memory_is_unknown_nothing_is_refused(model, monkeypatch):
    assert memory.free(torch.device("mps")) is None
    monkeypatch.setattr(memory, "free", lambda device: None)
    memory.refuse_too_large(model, 10**6)


MEASURED = """
from pathlib import Path

import torch
import clearclip
from analysis.probes.attention import attention_maps
from clearclip.models.memory import needed


def peak():  # of this process alone; ru_maxrss begins with that of its parent
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

model = clearclip.load("clip_tiny", device="cpu")
image = torch.zeros(1, 3, 64, 64)
attention_maps(model, image, [6])
before = peak()
attention_maps(model, torch.zeros(1, 3, 640, 640), [6])
print((peak() - before) / needed(model, 640, attention=True))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much a process has held")
def test_the_estimate_is_below_what_is_taken():
    ratio = float(subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True).stdout)
    assert 0.9 < ratio < 3
