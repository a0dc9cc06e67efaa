"""The command `python -m analysis.maps`."""

import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from analysis import maps
from analysis.probes.label_maps import read
from clearclip.errors import UserError


def run(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, env=os.environ, timeout=300
    )


def test_the_command(tmp_path):
    words = ("--limit", "2", "--first", "1", "--recipe", "clip", "X_res", "--text-cache", "texts")
    done = run("analysis.maps", *words, "--output", "mine/maps.nc", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pixel accuracy" in done.stdout and "wrote mine/maps.nc, mine/maps.csv, mine/maps.png" in done.stdout
    dataset = read(tmp_path / "mine/maps.nc")
    assert dataset.image.values.tolist() == ["test-scene-0-000001", "test-scene-0-000002"]
    assert dataset.attrs["dataset"] == "scenes" and dataset.attrs["command"].startswith(
        "python -m analysis.maps --limit 2"
    )
    assert pd.read_csv(tmp_path / "mine/maps.csv").columns.tolist() == ["model", "image", "clip", "X_res"]
    again = run("analysis.maps", "--data", "mine/maps.nc", "--figure", "again.pdf", cwd=tmp_path)
    assert again.returncode == 0 and (tmp_path / "again.pdf").read_bytes().startswith(b"%PDF")


def test_own_photos_and_a_broken_one(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    (tmp_path / "a_broken.jpg").write_bytes(b"\xff\xd8 no picture")
    words = (
        "--images",
        ".",
        "--classes",
        "apple, grass",
        "--recipe",
        "clip",
        "--text-cache",
        "texts",
        "--output",
        "out/maps.nc",
    )
    done = run("analysis.maps", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a_broken.jpg" in done.stdout and "wrote out/maps.nc, out/maps.png" in done.stdout
    dataset = read(tmp_path / "out/maps.nc")
    assert "truth" not in dataset and dataset.image.values.tolist() == ["red.png"]
    refused = run("analysis.maps", *words, "--strict", cwd=tmp_path)
    assert refused.returncode == 2 and "a_broken.jpg" in refused.stderr


MISTAKES = {
    "recipe": (("--recipe", "clip", "cleerclip"), "clearclip"),
    "no folder": (("--dataset", "voc20:nowhere"), "nowhere"),
    "data set": (("--dataset", "scens"), "scenes"),
    "photos without classes": (("--images", "."), "class"),
    "classes without photos": (("--classes", "horse"), "--images"),
    "limit": (("--limit", "0"), "at least one"),
    "first": (("--first", "1000"), "pictures"),
    "suffix": (("--output", "x.csv"), ".nc"),
    "model": (("--model", "clip_tiniest"), "clip_tiny"),
    "data": (("--data", "lost.nc"), "lost.nc"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, tmp_path, monkeypatch):
    words, hint = MISTAKES[mistake]
    monkeypatch.setattr(sys, "argv", ["maps", *words])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(hint)):
        maps.main()
    assert not list(tmp_path.iterdir())


def test_help_does_not_import_torch(tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "analysis.maps", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "--recipe" in done.stdout
    assert not {"torch", "xarray", "matplotlib"} & {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
