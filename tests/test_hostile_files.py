"""Files with names that are not UTF-8, and links to themselves: every command uses what can be used, and names the rest."""

import os
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from commands import here, process
from PIL import Image

from analysis.probes import store
from clearclip.models import load
from clearclip.pictures import find_images
from clearclip.runs import results

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is always text")

BYTES = os.fsdecode(b"caf\xe9 $x^$\n\x1b[1m")
READABLE = "caf\\xe9 $x^$\n\x1b[1m"
TINY = ("--model", "clip_tiny", "--device", "cpu")


@pytest.fixture
def folder(tmp_path):
    """A labelled folder, whose name and the name of whose first picture are not UTF-8; and pictures that are none."""
    root = tmp_path / BYTES
    rng = np.random.default_rng(0)
    for name in (BYTES, "b"):
        for part, pixels in (("images", rng.integers(0, 256, (40, 48, 3))), ("labels", rng.integers(0, 2, (40, 48)))):
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / part / f"{name}.png")
    (root / "classes.txt").write_text("apple\nball\n")
    return root


def images(path):
    return results.read(path).image.values.tolist()


def test_statistics_of_names_that_are_not_text(folder, tmp_path):
    words = ("--images", folder / "images", "scenes", "--limit", "2")
    done = here("analysis.entropy", *TINY, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    dataset = store.read(tmp_path / "results/entropy.nc")
    assert any(name.endswith(f"{READABLE}.png") for name in dataset.image.values.tolist())
    assert any(READABLE in source for source in dataset.source.values.tolist())
    assert any(READABLE in str(name) for name in pd.read_csv(tmp_path / "results/entropy.csv").source.unique())
    again = here("analysis.entropy", *TINY, *words, cwd=tmp_path)
    assert "holds this already" in again.stdout


@pytest.mark.parametrize("door", ["analysis.attention", "analysis.similarity", "analysis.featuremaps"])
def test_maps_of_names_that_are_not_text(door, folder, tmp_path):
    done = here(door, *TINY, "--images", folder / "images", "--layers", "6", "--limit", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert images(tmp_path / f"results/{door.rpartition('.')[2]}.nc") == ["b.png", f"{READABLE}.png"]


@pytest.mark.parametrize("door", ["clearclip.evaluate", "analysis.prototypes", "analysis.maps"])
def test_labelled_pictures_whose_names_are_not_text(door, folder, tmp_path):
    words = ("--dataset", folder, "--text-cache", "texts")[: 2 if door == "analysis.prototypes" else 4]
    done = here(door, *TINY, *words, *(("--limit", "2")), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    dataset = results.read(tmp_path / f"results/{door.rpartition('.')[2]}.nc")
    assert READABLE in (dataset.attrs["dataset"] if door == "analysis.maps" else dataset.dataset.item())


def test_segmenting_names_that_are_not_text_and_a_link_to_itself(folder, tmp_path):
    """In a process of its own, whose output is ASCII: nothing that is printed may end it."""
    for loop in ("loop.png", "links"):
        (folder / "images" / loop).symlink_to(loop)
    (folder / "images" / "deep").symlink_to("..")
    words = (*TINY, "--short-side", "32", "--prompts", "photo", "--text-cache", "texts", "--classes", "apple, ball")
    done = process("-m", "clearclip.segment", folder / "images", *words, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "skipped: " in done.stdout and "loop.png" in done.stdout and "skipped 1 pictures" in done.stdout
    assert set(pd.read_csv(tmp_path / "results/segment/shares.csv").picture) == {"b", READABLE}


def test_a_folder_that_links_to_itself_is_passed_over(folder, tmp_path):
    (folder / "images" / "deep").symlink_to(".")
    assert len(find_images(folder / "images")) == 2
    (tmp_path / "loop").symlink_to("loop")
    for words in (("analysis.entropy", "--images", "loop"), ("clearclip.segment", "loop")):
        done = here(*words, *TINY, cwd=tmp_path)
        assert done.returncode == 2 and "loop" in done.stderr and "Traceback" not in done.stderr
    done = here("clearclip.datasets", "check", "folder", "loop", cwd=tmp_path)
    assert done.returncode == 2 and "loop" in done.stderr


def test_a_checkpoint_and_a_sheet_whose_names_are_not_text(folder, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / f"{BYTES}.pt"
    torch.save(load.load("dino_tiny").model.state_dict(), tmp_path / "plain.pt")
    (tmp_path / "plain.pt").rename(file)
    words = ("--model", f"dino_tiny:{file.parent}", "--images", "scenes", "--limit", "1", "--device", "cpu")
    done = here("analysis.entropy", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert store.read(tmp_path / "results/entropy.nc").model.item() == READABLE
    done = here("clearclip.datasets", "check", "folder", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
