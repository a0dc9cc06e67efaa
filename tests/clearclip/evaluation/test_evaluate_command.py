import numpy as np
import pandas as pd
import pytest
import xarray as xr
from commands import files, here, process
from layouts import folder

import clearclip
from clearclip.cli import Labelled, Result, dataset_file, datasets
from clearclip.datasets import load
from clearclip.errors import UserError
from clearclip.evaluation.run import evaluate
from clearclip.evaluation.table import merge, table, tidy
from clearclip.methods.recipes import Recipe

QUIET = {"prompts": "photo", "progress": False}


@pytest.fixture(scope="module")
def grid():
    """Two models × two data sets, each model with recipes of its own."""
    model = clearclip.load("clip_tiny", device="cpu")
    scenes, background = (load(name, count=2) for name in ("scenes", "scenes_background"))
    mine = Recipe("mine", "vv", ffn=False, alpha=2.0, layer=6)
    recipes = {"clip_tiny": ["clip", "sclip"], "other": ["clip", mine]}
    return [
        evaluate(model, dataset, chosen, threshold=threshold, **QUIET).assign_coords(model=[name])
        for name, chosen in recipes.items()
        for dataset, threshold in ((scenes, 0.0), (background, 0.1))
    ]


def test_what_one_does_not_have_is_nan_in_the_merged_result(grid):
    merged = merge(grid)
    assert merged.model.values.tolist() == ["clip_tiny", "other"]
    assert merged.dataset.values.tolist() == ["scenes", "scenes_background"]
    assert merged.recipe.values.tolist() == ["clip", "sclip", "mine"]
    assert merged["class"].values.tolist() == [*load("scenes").classes, "background"]
    for one in grid:
        where = {"model": one.model.item(), "dataset": one.dataset.item()}
        here = merged.sel(where)
        for name in ("iou", "intersection", "union"):
            both = here[name].sel(recipe=one.recipe, **{"class": one["class"]})
            np.testing.assert_array_equal(both.values, one[name].squeeze().values)
            kept = np.isin(merged["class"], one["class"])
            assert here[name].values[:, ~kept].size and np.isnan(here[name].values[:, ~kept]).all()
        for name in ("miou", "pixel_accuracy", "threshold"):
            found = merged[name].sel({key: value for key, value in where.items() if key in merged[name].dims})
            np.testing.assert_array_equal(found.sel(recipe=one.recipe), one[name].squeeze())
        other = [name for name in merged.recipe.values if name not in one.recipe]
        assert np.isnan(here.miou.sel(recipe=other)).all()
    assert merged.images.values.tolist() == [[2, 2], [2, 2]]
    assert "confusion" not in merged and "predicted" not in merged.coords


def test_coordinates_survive_the_merging(grid):
    merged = merge(grid)
    assert merged.attention.values.tolist() == ["qk", "qq + kk", "vv"]
    assert merged.alpha.values.tolist() == [1, 1, 2] and merged.layer.values.tolist() == [0, 0, 6]
    assert merged.ffn.values.tolist() == [True, True, False] and merged.ffn.dtype == bool
    for name, values in grid[0].coords.items():
        if name not in ("class", "predicted"):
            assert merged[name].dims == values.dims and merged[name].attrs == values.attrs, name
    assert len(set(merged.data_sha256.values)) == 2 and merged.split.values.tolist() == ["validation"] * 2
    for name in ("iou", "miou", "threshold"):
        assert merged[name].attrs == grid[0][name].attrs
    assert set(grid[0].attrs) == set(merged.attrs)


def test_the_table_has_a_column_a_data_set_and_the_average(grid):
    merged = merge(grid)
    rows = table(merged)
    assert list(rows.columns) == ["scenes", "scenes_background", "average"] and len(rows) == 6
    for model, recipe in rows.index:
        values = merged.miou.sel(model=model, recipe=recipe).values
        np.testing.assert_array_equal(rows.loc[(model, recipe)], [*values, values.mean()])
    assert list(table(grid[0]).columns) == ["scenes"]  # of one there is no average


def test_tidy_rows(grid):
    merged = merge(grid)
    rows = tidy(merged)
    keys = ["model", "dataset", "recipe", "class"]
    assert not rows.duplicated(keys).any() and rows.iou.notna().all()
    assert len(rows) == int(merged.iou.notnull().sum() + merged.miou.notnull().sum())
    means = rows[rows["class"] == "mean"].set_index(keys[:3])
    for where, row in means.iterrows():
        here = merged.sel(dict(zip(keys, where, strict=False)))
        assert (row.iou, row.pixel_accuracy) == (here.miou.item(), here.pixel_accuracy.item())
    for _, row in rows[rows["class"] != "mean"].iloc[::7].iterrows():
        here = merged.sel({key: row[key] for key in keys})
        assert (row.iou, row.intersection, row.union) == (here.iou.item(), here.intersection.item(), here.union.item())
        assert row.attention == here.attention.item() and row.random_weights == here.random_weights.item()
    alone = tidy(grid[0])
    assert list(alone.columns[:8]) == list(rows.columns[:8]) and set(alone.columns) == set(rows.columns)


@pytest.mark.parametrize("names", [(), ("scenes", "scenes")])
def test_each_data_set_once(names):
    with pytest.raises(UserError, match="each name once"):
        datasets(Labelled(names))


def test_the_output_is_netcdf(tmp_path):
    assert dataset_file(Result(tmp_path / "alpha.nc")) == tmp_path / "alpha.nc"
    with pytest.raises(UserError, match=r"name a \.nc file"):
        dataset_file(Result(tmp_path / "x.csv"))


# the command ---------------------------------------------------------------------------------------------------------


TEXTS = ("--prompts", "photo", "--text-cache", "texts", "--device", "cpu")


def test_two_data_sets_and_two_recipes(tmp_path):
    words = ("--limit", 4, "--dataset", "scenes", "scenes_background", "--recipe", "clip", "clearclip")
    done = process("-m", "clearclip.evaluate", *words, *TEXTS, "--output", "out/mine.nc", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == ["out/mine.csv", "out/mine.nc"]
    written = xr.load_dataset(tmp_path / "out/mine.nc", engine="h5netcdf")
    assert written.attrs["command"] == (
        "python -m clearclip.evaluate --dataset scenes scenes_background --prompts photo --text-cache texts --limit 4 "
        "--device cpu --output out/mine.nc --recipe clip clearclip"
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "mIoU in percent, 4 of scenes, 4 of scenes_background"
    assert lines[-3] == "wrote out/mine.nc, out/mine.csv"
    best = written.miou.sel(dataset="scenes").to_series()
    assert lines[-2].startswith(f"Best for clip_tiny on scenes: {best.idxmax()[1]}, {best.max():.1f} mIoU, ")
    assert lines[-1].startswith("Best for clip_tiny on scenes_background: ")
    values = written.miou.squeeze().transpose("recipe", "dataset").values
    for line, recipe, row in zip(lines[3:5], ("clip", "clearclip"), values, strict=True):
        words = line.removeprefix("clip_tiny").split()
        assert words == [recipe, *(f"{value:.1f}" for value in (*row, row.mean()))]
    assert "mIoU clip" in done.stderr  # the progress bar's running value
    rows = pd.read_csv(tmp_path / "out/mine.csv")
    mean = rows[(rows["class"] == "mean") & (rows.recipe == "clip") & (rows.dataset == "scenes")]
    assert mean.iou.item() == pytest.approx(written.miou.sel(dataset="scenes", recipe="clip").item())
    model = clearclip.load("clip_tiny", device="cpu")
    again = evaluate(model, load("scenes", split="test"), ["clip", "clearclip"], limit=4, **QUIET)
    assert np.array_equal(again.miou.values[:, 0], written.miou.sel(dataset="scenes").values)


def test_a_folder_of_ones_own_with_a_broken_picture(tmp_path):
    root = folder(tmp_path / "mine", [0, 1, 1, 255], "apple|ball", "grass")
    folder(tmp_path / "mine2", [0, 1], "apple", "grass")
    (tmp_path / "mine2/images/a.jpg").rename(root / "images/ünï b.jpg")
    (tmp_path / "mine2/labels/a.png").rename(root / "labels/ünï b.png")
    (root / "labels/ünï b.png").write_bytes(b"no label")
    done = here("clearclip.evaluate", "--dataset", root, "--recipe", "clip", *TEXTS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of mine" in done.stdout and "ünï b.png" in done.stdout and "skipped 1 picture" in done.stdout
    assert files(tmp_path / "results") == ["evaluate.csv", "evaluate.nc"]
    written = xr.load_dataset(tmp_path / "results/evaluate.nc", engine="h5netcdf")
    assert written["class"].values.tolist() == ["apple|ball", "grass"] and written.confusion.sum() == 6
    words = ("--dataset", root, "--strict", "--output", "strict.nc", *TEXTS)
    done = here("clearclip.evaluate", *words, cwd=tmp_path)
    assert done.returncode == 2 and "ünï b.png" in done.stderr and not (tmp_path / "strict.nc").exists()


MISTAKES = {
    "unknown data set": (("--dataset", "voc22"), "voc2"),
    "no such folder": (("--dataset", "voc20:nowhere"), "nowhere"),
    "not below data": (("--dataset", "ade20k"), "write ade20k:FOLDER"),
    "data set twice": (("--dataset", "scenes", "scenes"), "each name once"),
    "unknown recipe": (("--recipe", "cleraclip"), "Closest: clearclip"),
    "recipe twice": (("--recipe", "clip", "clip"), "each name once"),
    "recipe needs a proxy": (("--recipe", "proxyclip"), "second model"),
    "unknown model": (("--model", "clip_vitb15"), "clip_vitb16"),
    "no text tower": (("--model", "dino_tiny"), "text space"),
    "threshold without background": (("--threshold", "0.5"), "scenes has no class background"),
    "threshold": (("--dataset", "scenes_background", "--threshold", "2"), "between 0 and 1"),
    "limit": (("--limit", "0"), "at least one picture"),
    "batch size": (("--batch-size", "0"), "at least 1"),
    "output": (("--output", "x.csv"), ".nc"),
    "unknown option": (("--datset", "scenes"), "--dataset"),
    "split": (("--split", "dev"), "train, validation, test"),
    "prompts": (("--prompts", "many"), "imagenet"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_message_and_code_2(mistake, tmp_path):
    words, message = MISTAKES[mistake]
    done = here("clearclip.evaluate", *TEXTS, *words, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr + done.stdout and "Traceback" not in done.stderr
    assert files(tmp_path) == []


def test_a_mistake_in_a_real_process(tmp_path):
    done = process("-m", "clearclip.evaluate", "--recipe", "cleraclip", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: unknown recipe") and "Traceback" not in done.stderr


def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(tmp_path):
    """A real SIGINT after the second write; the first data set is not evaluated again."""
    code = (
        "import os, runpy, signal\n"
        "from clearclip.runs import results, stream\n"
        "write, left = results.write, [3]\n"
        "stream.SAVE_EVERY = 0\n"
        "def write_and_press(*given):\n"
        "    write(*given)\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGINT)\n"
        "results.write = write_and_press\n"
        "runpy.run_module('clearclip.evaluate', run_name='__main__', alter_sys=True)"
    )
    words = ("--dataset", "scenes", "scenes_background", "--limit", 4, "--batch-size", 4, "--recipe", "clip", *TEXTS)
    done = process("-c", code, *words, cwd=tmp_path)
    assert done.returncode == 130 and "same command" in done.stderr and "Traceback" not in done.stderr
    assert files(tmp_path) == ["results/.evaluate.clip_tiny.scenes.unfinished.nc"] or len(files(tmp_path)) == 2
    other = here("clearclip.evaluate", *words[:4], 3, *words[5:], cwd=tmp_path)
    assert other.returncode == 2 and "interrupted run with other limit" in other.stderr
    assert here("clearclip.evaluate", *words, cwd=tmp_path).returncode == 0
    assert files(tmp_path) == ["results/evaluate.csv", "results/evaluate.nc"]
    assert here("clearclip.evaluate", *words, "--output", "whole.nc", cwd=tmp_path).returncode == 0
    ours, whole = (xr.load_dataset(tmp_path / name, engine="h5netcdf") for name in ("results/evaluate.nc", "whole.nc"))
    xr.testing.assert_equal(ours, whole)
