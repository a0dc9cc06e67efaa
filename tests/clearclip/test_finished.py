"""A Dataset that already holds what is asked is used; whatever changes a number has it measured again."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from commands import here
from layouts import folder
from PIL import Image
from safetensors.torch import save_file

import clearclip
from analysis import entropy
from clearclip.cli import Models, Result, facts
from clearclip.finished import state
from clearclip.models.checkpoint import file_digest
from clearclip.runs import results

TINY = "timm:test_vit.r160_in1k"
HOLDS = "holds this already and is used"


def save(path, seed):
    """Weights of the tiny model in a file."""
    path.parent.mkdir(exist_ok=True)
    save_file(clearclip.load(TINY, random=True, seed=seed).model.state_dict(), path)
    return path


def measured(cwd, *words, model=f"mine={TINY}:weights.safetensors"):
    """What `analysis.entropy` prints of two small photos; it succeeds."""
    words = ("--model", model, "--images", "photos", "--limit", 2, "--image-size", 32, *words)
    done = here("analysis.entropy", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def first(photos, tmp_path):
    """The words of a first run."""
    save(tmp_path / "weights.safetensors", seed=0)
    Image.linear_gradient("L").convert("RGB").save(photos / "a.bmp")
    printed = measured(tmp_path)
    assert HOLDS not in printed
    return printed


def test_the_same_command_loads_no_model(first, tmp_path, monkeypatch):
    def load(*args):
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("clearclip.models.load.load", load)
    (tmp_path / "results/entropy.png").unlink()
    again = measured(tmp_path)
    line, *rest = again.splitlines()
    assert HOLDS in line and "results/entropy.nc" in line and rest == first.splitlines()
    assert (tmp_path / "results/entropy.png").is_file()
    assert HOLDS in measured(tmp_path, "--device", "cpu", "--batch-size", 1, "--figure", "other.png")


def weights(folder):
    save(folder / "weights.safetensors", seed=1)


def picture(folder):
    Image.new("RGB", (50, 50), "red").save(folder / "photos/photo_0.png")


def picture_of_the_same_size(folder):
    with Image.open(folder / "photos/a.bmp") as photo:
        photo.transpose(Image.Transpose.ROTATE_180).save(folder / "photos/a.bmp")


def another_picture(folder):
    Image.new("RGB", (50, 50), "red").save(folder / "photos/0.png")


@pytest.mark.parametrize("change", [weights, picture, picture_of_the_same_size, another_picture])
def test_other_weights_or_pictures_are_measured(change, first, tmp_path):
    before = results.read(tmp_path / "results/entropy.nc")
    change(tmp_path)
    assert HOLDS not in measured(tmp_path)
    after = results.read(tmp_path / "results/entropy.nc")
    assert not np.array_equal(before.entropy, after.entropy)
    assert HOLDS in measured(tmp_path)


@pytest.mark.parametrize("words", [("--layers", "1"), ("--limit", 3), ("--precision", "bf16")])
def test_other_options_are_measured(words, first, tmp_path):
    assert HOLDS not in measured(tmp_path, *words)
    assert HOLDS in measured(tmp_path, *words)


def test_an_evaluation_is_used_until_a_label_changes(tmp_path):
    root = folder(tmp_path / "mine", [0, 1, 1], "apple", "grass")
    words = ("--dataset", root, "--recipe", "clip", "--prompts", "photo", "--text-cache", "texts", "--device", "cpu")
    first = here("clearclip.evaluate", *words, cwd=tmp_path)
    assert first.returncode == 0 and HOLDS not in first.stdout
    again = here("clearclip.evaluate", *words, cwd=tmp_path)
    assert HOLDS in again.stdout and again.stdout.splitlines()[1:] == first.stdout.splitlines()
    with Image.open(root / "labels/a.png") as label:
        turned = np.where(np.asarray(label) == 0, 1, 0).astype(np.uint8)
    Image.fromarray(turned).save(root / "labels/a.png")
    assert HOLDS not in here("clearclip.evaluate", *words, cwd=tmp_path).stdout


def written(path, options):
    """A Dataset as the door would have written it with these options, without its numbers."""
    models = [text.split("=") for text in options.models.model]
    files = [Path(rest.removeprefix(f"{TINY}:")) for _, rest in models]
    coords = {
        "model": [label for label, _ in models],
        "weights_sha256": ("model", [file_digest(file) for file in files]),
    }
    attrs = {"options": json.dumps({"door": "analysis.entropy", **facts(options)})}
    xr.Dataset(coords=coords, attrs=attrs).to_netcdf(path, engine="h5netcdf")


def test_models_with_labels_and_files_are_found_again(tmp_path):
    one, two = (save(tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate(("one", "two")))
    options = entropy.Options(models=Models((f"a={TINY}:{one}", f"b={TINY}:{two}")), result=Result(tmp_path / "e.nc"))
    assert state("analysis.entropy", options, tmp_path / "e.nc") == "missing"
    written(tmp_path / "e.nc", options)
    assert state("analysis.entropy", options, tmp_path / "e.nc") == "finished"
    save(two, seed=7)
    assert state("analysis.entropy", options, tmp_path / "e.nc") == "other facts"


def test_a_new_checkpoint_in_a_folder_is_noticed(photos, tmp_path):
    save(tmp_path / "run/step_1.safetensors", seed=0)
    model = f"{TINY}:run"
    assert HOLDS not in measured(tmp_path, model=model) and HOLDS in measured(tmp_path, model=model)
    save(tmp_path / "run/step_2.safetensors", seed=1)
    assert HOLDS not in measured(tmp_path, model=model)
    assert results.read(tmp_path / "results/entropy.nc").model.values.tolist() == ["step_1", "step_2"]


def test_what_a_run_had_left_goes_when_its_result_is_used(tmp_path):
    """A run that was killed after its result was written, before its unfinished files were deleted."""
    words = ("clearclip.evaluate", "--recipe", "clip", "--limit", "2", "--prompts", "photo", "--output", "out.nc")
    assert here(*words, cwd=tmp_path).returncode == 0
    old, new = tmp_path / ".out.nc.clip_tiny.scenes.unfinished.nc", tmp_path / ".out.nc.other.unfinished.nc"
    for path in (old, new):
        path.write_bytes(b"state")
    os.utime(old, (0, 0))
    done = here(*words, cwd=tmp_path)
    assert done.returncode == 0 and "holds this already" in done.stdout
    assert not old.exists() and new.exists()  # which belongs to a run that began later
