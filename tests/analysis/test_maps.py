"""Label maps of several recipes: measured, kept, drawn, and as a command."""

import os
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import clearclip
from analysis import maps
from clearclip.datasets import Sample, load
from clearclip.errors import UserError
from clearclip.methods.recipes import feature_recipe
from clearclip.runs import results
from clearclip.segmentation.overlay import OTHER, Row, few_colors, flat

RECIPES = ("clip", "clearclip", "X_attn")


@pytest.fixture(scope="module")
def model():
    return clearclip.load("clip_tiny")


@pytest.fixture(scope="module")
def samples():
    scenes = load("scenes", split="test", count=2, size=48)
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8))
    return [
        *(scenes[i] for i in range(2)),
        Sample(wide, np.full((300, 600), 255, np.uint8), "unlabelled"),
    ], scenes.classes


@pytest.fixture(scope="module")
def dataset(model, samples):
    return maps.label_maps(model, *samples, RECIPES)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_labels_are_those_of_each_recipe_alone(model, samples, dataset):
    pictures, classes = samples
    for recipe in ("clip", "clearclip", feature_recipe("X_attn")):
        name = getattr(recipe, "name", recipe)
        alone = clearclip.Segmenter(model, classes, recipe)(pictures[1].image)
        kept = dataset.labels.sel(model="clip_tiny", recipe=name, image=pictures[1].name)
        np.testing.assert_array_equal(kept.values[:48, :48], alone.labels)
        assert (kept.values[48:] == 255).all() and (kept.values[:, 48:] == 255).all()
        accuracy = dataset.pixel_accuracy.sel(model="clip_tiny", recipe=name, image=pictures[1].name)
        assert float(accuracy) == pytest.approx(100 * (alone.labels == pictures[1].label).mean())


def test_large_pictures_are_kept_smaller_and_labels_stay_labels(model, samples, dataset):
    pictures, classes = samples
    assert dataset.sizes == {"model": 1, "recipe": 3, "image": 3, "row": 256, "column": 512, "rgb": 3, "class": 26}
    assert dataset.height.values.tolist() == [48, 48, 256] and dataset.width.values.tolist() == [48, 48, 512]
    whole = clearclip.Segmenter(model, classes)(pictures[2].image).labels
    kept = dataset.labels.sel(recipe="clearclip", image="unlabelled").values[0]
    rows = ((np.arange(256) + 0.5) * 300 / 256).astype(int)
    columns = ((np.arange(512) + 0.5) * 600 / 512).astype(int)
    np.testing.assert_array_equal(kept, whole[np.ix_(rows, columns)])
    assert (dataset.truth.sel(image="unlabelled") == 255).all()
    assert dataset.pixel_accuracy.sel(image="unlabelled").isnull().all()


def test_the_dataset_says_where_it_comes_from(model, dataset):
    assert dataset.weights_sha256.item() == model.weights.sha256 and not dataset.random_weights.item()
    assert dataset.attention.values.tolist() == ["qk", "qq", "qk"] and dataset.layer.values.tolist() == [12, 12, 12]
    assert {"libraries", "command", "created", "images"} <= set(dataset.attrs)
    assert all({"long_name", "units"} <= set(variable.attrs) for variable in dataset.data_vars.values())


def test_it_is_the_same_after_it_was_written(dataset, tmp_path):
    results.write(dataset, tmp_path / "maps.nc")
    again = maps.read(tmp_path / "maps.nc")
    assert again.identical(dataset) or again.equals(dataset)
    dataset.drop_vars("labels").to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(UserError, match=r"python -m analysis.maps"):
        maps.read(tmp_path / "other.nc")


@pytest.mark.filterwarnings("ignore:clip_tiny was never trained")
def test_more_than_254_classes_need_16_bits(model):
    picture = Sample(Image.new("RGB", (20, 20)), np.array([[300]], np.uint16).repeat(20, 0).repeat(20, 1), "one")
    classes = [f"class {i}" for i in range(301)]
    one = clearclip.Segmenter(model, classes, prompts="photo")
    kept = maps._one(one, picture, np.uint16)
    assert kept[0].shape == (20, 20, 3) and kept[2].dtype == np.uint16 and (kept[2] == 300).all()


def test_the_figure_has_a_row_a_picture_and_one_legend(dataset):
    figure = maps.figure(dataset)
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles == ["photo", "ground truth", "CLIP", "ClearCLIP", r"$X_\mathrm{attn}$"]
    shapes = [axes.images[0].get_array().shape[:2] for axes in figure.axes]
    assert shapes == [(48, 48)] * 10 + [(256, 512)] * 5
    rows = maps.rows(dataset)
    colors = few_colors(rows, dataset["class"].values.tolist())
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), flat(rows[0].truth, colors.of))
    np.testing.assert_allclose(figure.axes[11].images[0].get_array(), 1)  # nothing is labelled
    assert len(figure.legends) == 1
    assert [text.get_text() for text in figure.legends[0].texts] == list(colors.legend)
    assert "clip_tiny" in figure.get_suptitle() and "drawn scenes" in figure.get_suptitle()


def test_random_weights_are_named_in_the_figure(dataset):
    figure = maps.figure(dataset.assign_coords(random_weights=("model", [True])), ["clip"], [0])
    assert "RANDOM WEIGHTS" in figure.get_suptitle() and len(figure.axes) == 3


def test_a_recipe_that_is_not_there(dataset):
    with pytest.raises(UserError, match="no label maps of gem, but of clip, clearclip, X_attn"):
        maps.rows(dataset, recipes=["gem"])


def test_true_classes_have_their_own_colours_and_the_rest_is_grey():
    labels = np.arange(40, dtype=np.uint8).repeat(10).reshape(20, 20)
    colors = few_colors(
        [Row(np.zeros((20, 20, 3), np.uint8), {"clip": labels}, np.full((20, 20), 39, np.uint8))],
        list(map(str, range(40))),
    )
    names = list(colors.legend)
    assert names[0] == "39" and names[-1] == "other classes" and len(names) == 15
    assert len({tuple(color) for color in colors.of}) == 15
    assert (colors.of == OTHER).all(1).sum() == 40 - 14


# the command ---------------------------------------------------------------------------------------------------------


def run(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, env=os.environ, timeout=300
    )


def test_the_command(tmp_path):
    words = ("--limit", "2", "--first", "1", "--recipe", "clip", "X_res", "--text-cache", "texts")
    done = run("analysis.maps", *words, "--output", "mine/maps.nc", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pixel accuracy" in done.stdout and "wrote mine/maps.nc, mine/maps.csv, mine/maps.png" in done.stdout
    dataset = maps.read(tmp_path / "mine/maps.nc")
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
    dataset = maps.read(tmp_path / "out/maps.nc")
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
