"""Models as they are written on a command line."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import save_file

import clearclip
from analysis import collect
from clearclip.errors import UserError
from clearclip.models.load import has_text, loaders
from clearclip.models.named import Named, named

TINY = "timm:test_vit"


@pytest.fixture
def states(tmp_path):
    """Weights of three steps of a training run, in files whose alphabetical order is not that of the steps."""
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (0, 5, 10):
        save_file(clearclip.load(TINY, random=True, seed=step).model.state_dict(), folder / f"step_{step}.safetensors")
    (folder / "log.txt").write_text("loss")
    return folder


def load_all(*texts, checkpoints=()):
    return [load() for load in loaders(texts, checkpoints, False, "cpu", "fp32")]


@pytest.mark.parametrize(
    ("text", "label", "name", "file"),
    [
        ("dino_vits16", "dino_vits16", "dino_vits16", None),
        ("a=dino_vits16", "a", "dino_vits16", None),
        ("a b=dino_vits16:{}", "a b", "dino_vits16", "lr=0.1.pt"),
        ("dino_vits16:{}", "dino_vits16", "dino_vits16", "lr=0.1.pt"),
        ("timm:test_vit", "timm:test_vit", "timm:test_vit", None),
        ("open_clip:ViT-B-16/openai:{}", "open_clip:ViT-B-16/openai", "open_clip:ViT-B-16/openai", "lr=0.1.pt"),
        ("a=timm:test_vit:{}", "a", "timm:test_vit", "lr=0.1.pt"),
    ],
)
def test_label_name_and_checkpoint(tmp_path, text, label, name, file):
    (tmp_path / "lr=0.1.pt").touch()
    path = file and tmp_path / file
    assert named(text.format(path)) == [Named(label, name, path)]


@pytest.mark.parametrize("text", ["", "=", "a=", "=dino_vits16", ":x"])
def test_what_is_no_model(text):
    with pytest.raises(UserError, match="label=name"):
        named(text)


def test_two_checkpoints_of_one_architecture(states):
    first, last = load_all(
        f"before={TINY}:{states / 'step_0.safetensors'}", f"after={TINY}:{states / 'step_10.safetensors'}"
    )
    assert (first.name, last.name) == ("before", "after")
    assert first.architecture == last.architecture == TINY
    assert (first.weights.name, last.weights.name) == ("step_0.safetensors", "step_10.safetensors")
    for model, seed in ((first, 0), (last, 10)):
        for key, value in clearclip.load(TINY, random=True, seed=seed).model.state_dict().items():
            assert torch.equal(model.model.state_dict()[key].cpu(), value.cpu())


def test_a_folder_gives_one_model_per_checkpoint_in_natural_order(states):
    models = load_all(f"run={TINY}:{states}")
    assert [model.name for model in models] == ["step_0", "step_5", "step_10"]
    assert len({model.weights.sha256 for model in models}) == 3


def test_labels_collide_only_if_they_are_equal(states):
    file = states / "step_0.safetensors"
    assert [model.name for model in load_all(f"{TINY}:{file}", f"b={TINY}:{file}")] == [TINY, "b"]
    for texts in ((TINY, f"{TINY}:{file}"), (f"a={TINY}:{file}",) * 2, (f"{TINY}:{states}",) * 2):
        with pytest.raises(UserError, match=r"a model is named twice.*before=timm:test_vit after="):
            load_all(*texts)


def test_checkpoints_are_named_in_one_place(states):
    file = states / "step_0.safetensors"
    assert load_all(f"a={TINY}", checkpoints=[file])[0].weights.name == file.name
    with pytest.raises(UserError, match="not both"):
        load_all(f"a={TINY}:{file}", checkpoints=[file])


def test_checkpoints_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint file"):
        named(f"{TINY}:{tmp_path / 'gone.pt'}")
    with pytest.raises(UserError, match="no checkpoint in this folder"):
        named(f"{TINY}:{tmp_path}")
    with pytest.raises(UserError, match="unknown model 'gone'"):
        load_all("a=gone")


def test_text_towers_of_labelled_models():
    assert has_text("a=clip_vitb16") and not has_text("b=dino_vitb16")


def test_functions_take_labels_and_checkpoints_too(states, photos):
    parts = [
        collect(f"{step}={TINY}:{states / f'step_{step}.safetensors'}", photos, progress=False) for step in (0, 10)
    ]
    both = xr.concat(parts, "model")
    assert both.model.values.tolist() == ["0", "10"] and len(set(both.weights_sha256.values)) == 2
    with pytest.raises(UserError, match="is 3 models"):
        collect(f"{TINY}:{states}", photos)


def test_a_training_run_is_one_figure(states, photos, tmp_path):
    words = ["--model", f"{TINY}:{states}", f"end={TINY}:{states / 'step_10.safetensors'}", "--images", photos]
    words += ["--limit", "1", "--device", "cpu", "--output", tmp_path / "run.nc"]
    done = subprocess.run([sys.executable, "-m", "analysis.entropy", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    dataset = xr.load_dataset(tmp_path / "run.nc", engine="h5netcdf")
    assert dataset.model.values.tolist() == ["step_0", "step_5", "step_10", "end"]
    assert np.array_equal(dataset.entropy.sel(model="end"), dataset.entropy.sel(model="step_10"))
    assert (tmp_path / "run.png").stat().st_size > 0
