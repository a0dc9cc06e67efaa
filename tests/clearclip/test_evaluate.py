"""The command `python -m clearclip.evaluate`."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from commands import files, here, process
from layouts import folder

import clearclip
from analysis import read_rows
from clearclip.datasets import load
from clearclip.evaluation.run import evaluate

QUIET = {"prompts": "photo", "progress": False}
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
    assert lines[0] == "mIoU in percent, protocol clearclip, 4 of scenes, 4 of scenes_background"
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
    assert read_rows(tmp_path / "out/mine.nc").to_csv(index=False) == (tmp_path / "out/mine.csv").read_text()
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


def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(tmp_path):
    """A real SIGINT after the second write; the first data set is not evaluated again."""
    code = (
        "import os, runpy, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "from clearclip.runs import stream, unfinished_files\n"
        "write, left = unfinished_files.write, [3]\n"
        "stream.SAVE_EVERY = 0\n"
        "def write_and_press(*given):\n"
        "    write(*given)\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGINT)\n"
        "unfinished_files.write = write_and_press\n"
        "runpy.run_module('clearclip.evaluate', run_name='__main__', alter_sys=True)"
    )
    words = ("--dataset", "scenes", "scenes_background", "--limit", 4, "--batch-size", 4, "--recipe", "clip", *TEXTS)
    done = process("-c", code, *words, cwd=tmp_path)
    assert done.returncode == 130 and "same command" in done.stderr and "Traceback" not in done.stderr
    assert files(tmp_path) == ["results/.evaluate.nc.clip_tiny.scenes.unfinished.nc"] or len(files(tmp_path)) == 2
    other = here("clearclip.evaluate", *words[:4], 3, *words[5:], cwd=tmp_path)
    assert other.returncode == 2 and "interrupted run with other limit (4 → 3)" in other.stderr
    assert here("clearclip.evaluate", *words, cwd=tmp_path).returncode == 0
    assert files(tmp_path) == ["results/evaluate.csv", "results/evaluate.nc"]
    assert here("clearclip.evaluate", *words, "--output", "whole.nc", cwd=tmp_path).returncode == 0
    ours, whole = (xr.load_dataset(tmp_path / name, engine="h5netcdf") for name in ("results/evaluate.nc", "whole.nc"))
    xr.testing.assert_equal(ours, whole)
