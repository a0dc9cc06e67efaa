"""The command `python -m analysis.maps`."""

import numpy as np
import pandas as pd
import pytest
from commands import here
from PIL import Image

from analysis import read_rows
from analysis.probes.label_maps import read


def test_the_command(tmp_path):
    words = ("--limit", "2", "--first", "1", "--recipe", "clip", "X_res", "--text-cache", "texts")
    done = here("analysis.maps", *words, "--output", "mine/maps.nc", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pixel accuracy" in done.stdout and "wrote mine/maps.nc, mine/maps.csv, mine/maps.png" in done.stdout
    dataset = read(tmp_path / "mine/maps.nc")
    assert dataset.image.values.tolist() == ["test-scene-0-000001", "test-scene-0-000002"]
    assert dataset.attrs["dataset"] == "scenes" and dataset.attrs["command"] == (
        "python -m analysis.maps --recipe clip X_res --first 1 --text-cache texts --limit 2 --output mine/maps.nc"
    )
    rows = pd.read_csv(tmp_path / "mine/maps.csv")
    assert read_rows(tmp_path / "mine/maps.nc").to_csv(index=False) == (tmp_path / "mine/maps.csv").read_text()
    cells = rows.groupby(["model", "recipe", "image"])
    assert (
        len(cells) == 4 and set(rows.recipe) == {"clip", "X_res"} and set(rows["class"]) <= set(dataset["class"].values)
    )
    np.testing.assert_allclose(cells.share.sum(), 1)
    np.testing.assert_allclose(
        cells.pixel_accuracy.first().xs("clip", level="recipe"),
        dataset.pixel_accuracy.sel(recipe="clip").values.ravel(),
    )
    again = here("analysis.maps", "--data", "mine/maps.nc", "--figure", "again.pdf", cwd=tmp_path)
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
    done = here("analysis.maps", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a_broken.jpg" in done.stdout and "wrote out/maps.nc, out/maps.csv, out/maps.png" in done.stdout
    dataset = read(tmp_path / "out/maps.nc")
    assert "truth" not in dataset and dataset.image.values.tolist() == ["red.png"]
    again = here("analysis.maps", *words, cwd=tmp_path)
    assert again.returncode == 2 and "out/maps.png is one of the pictures of ." in again.stderr
    refused = here("analysis.maps", *words, "--figure", "out/again.png", "--strict", cwd=tmp_path)
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
def test_mistakes(mistake, tmp_path):
    words, hint = MISTAKES[mistake]
    done = here("analysis.maps", *words, cwd=tmp_path)
    assert done.returncode == 2 and hint in done.stderr
    assert not list(tmp_path.iterdir())
