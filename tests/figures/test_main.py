"""`python -m figures`, as a user runs it."""

import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from PIL import Image
from sweeps import sweep

from analysis.sweeps import recipe_lists
from clearclip.errors import UserError
from clearclip.runs import results
from figures import __main__ as command
from figures.catalogue import DEMO, RUNS, Choice, entries


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def statistics() -> xr.Dataset:
    """What analysis.entropy writes, small and from a formula."""
    dims = ("model", "image", "layer", "feature", "tokens")
    shape = (2, 3, 4, 3, 2)
    values = np.linspace(0.1, 0.9, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    channels = np.sort(np.linspace(0, 1, 2 * 4 * 3 * 2 * 8, dtype=np.float32).reshape(2, 4, 3, 2, 8), -1)
    about = {"long_name": "normalised entropy", "units": "1"}
    coords = {
        "model": ["clip_tiny", "mine"],
        "image": ["a", "b", "c"],
        "layer": [1, 2, 3, 4],
        "feature": ["X_res", "X_attn", "X_sum"],
        "tokens": ["patches", "all"],
        "channel": np.arange(8),
        "source": ("image", ["photographs"] * 3),
        "architecture": ("model", ["zoo:clip_tiny", "timm:vit_base_patch16_224.dino"]),
        "weights": ("model", ["clip_tiny", "random"]),
        "weights_sha256": ("model", ["1" * 64, "2" * 64]),
        "random_weights": ("model", [False, True]),
        "image_size": ("model", [64, 224]),
    }
    variables = {
        "entropy": (dims, values, about),
        "maximum": (dims, 10 * values, {"long_name": "largest entry", "units": "model units"}),
        "channel_mean_sorted": (
            ("model", "layer", "feature", "tokens", "channel"),
            channels,
            {"long_name": "min–max", "units": "1"},
        ),
    }
    attrs = {
        "images": 3,
        "command": "python -m analysis.entropy --model clip_tiny mine",
        "created": "2026-01-01",
        "libraries": "torch",
    }
    return xr.Dataset(variables, coords, attrs)


@pytest.fixture
def data(tmp_path):
    results.write(statistics(), tmp_path / "data" / "statistics.nc")
    one = sweep(recipe_lists.ablation(), ("clip_tiny",), ("scenes",))
    one.attrs["command"] = "python -m analysis.ablation"
    results.write(one, tmp_path / "data" / "ablation.nc")
    return tmp_path / "data"


def run(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "figures", *words], cwd=cwd, capture_output=True, text=True, timeout=300, env=os.environ
    )


def call(monkeypatch, folder, *words):
    """The command in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["figures", *map(str, words)])
    command.main()


def test_named_figures_from_finished_data(data, tmp_path):
    done = run("fig4a", "table1", "--data", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "figures" / "output"
    names = {path.name for path in output.iterdir()}
    assert names == {"fig4a.pdf", "fig4a.png", "table1.csv", "table1.md", "table1.tex", "index.html"}
    assert (output / "fig4a.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(output / "fig4a.png") as picture:
        assert min(picture.size) > 300
    page = (output / "index.html").read_text()
    assert "Random weights: mine" in page and "python -m figures fig4a table1 --data data" in page
    assert "2 figures and tables" in done.stdout and "figures/output/index.html" in done.stdout


def test_a_wrong_name_gets_the_closest_and_exit_code_2(tmp_path):
    done = run("fig4x", "--data", ".", cwd=tmp_path)
    assert done.returncode == 2 and "Closest: fig4" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_one_file_serves_what_reads_one(data, tmp_path, monkeypatch):
    call(monkeypatch, tmp_path, "fig4", "--data", data / "statistics.nc", "--output", "out")
    assert {"fig4a.png", "fig4b.png", "fig4c.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UserError, match="fig3 reads 2 Datasets"):
        call(monkeypatch, tmp_path, "fig3", "--data", data / "statistics.nc")
    with pytest.raises(UserError, match="table1 cannot be drawn from ablation"):
        call(monkeypatch, tmp_path, "table1", "--data", data / "statistics.nc")


def test_a_missing_run_is_told_with_its_command(data, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match=r"alpha\.nc is missing.*python -m analysis.alpha --model clip_tiny"):
        call(monkeypatch, tmp_path, "fig6", "--data", data)
    call(monkeypatch, tmp_path, "--data", data)
    said = capsys.readouterr().out
    assert "left out: fig6" in said and "left out: fig4a" not in said
    assert "alpha.nc is missing" in (tmp_path / "figures/output/index.html").read_text()
    with pytest.raises(UserError, match="no such folder"):
        call(monkeypatch, tmp_path, "fig6", "--data", "lost")


@pytest.mark.parametrize(
    "words, hint",
    [
        (("--data", "x", "--model", "clip_vitb16"), "--data draws what is finished"),
        (("--offline-demo", "--model", "clip_vitb16"), "--offline-demo"),
        (("--dataset", "scenes"), "--model"),
        (("--model", "clip_tiny", "--against", "clip_tiny"), "twice"),
        (("--model", "clip_tiny", "--checkpoint", "a", "b"), "2 checkpoints for 1 models"),
        (("--model", "clip_tiny", "--limit", "0"), "at least one"),
        (("--limit", "0"), "at least one"),
    ],
)
def test_mistakes(words, hint, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=hint):
        call(monkeypatch, tmp_path, *words)
    assert not list(tmp_path.iterdir())


def test_the_plan_says_what_is_there_and_what_will_be_computed(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "there"
    words = " ".join(["python -m", *RUNS["statistics"].words(DEMO, folder / "statistics.nc")])
    results.write(xr.Dataset(attrs={"command": words}), folder / "statistics.nc")
    call(monkeypatch, tmp_path, "fig4a", "fig7", "fig9", "--plan", "--results", folder)
    said = capsys.readouterr().out
    assert "statistics   finished" in said
    assert "python -m analysis.maps --model clip_tiny --dataset scenes" in said and "4 images, about" in said
    assert "to compute: 2 runs, about" in said
    assert {path.name for path in folder.iterdir()} == {"statistics.nc"}


def test_a_model_without_text_draws_what_needs_none(tmp_path, monkeypatch, capsys):
    steps = command.plan(entries(), Choice(("dino_tiny",), ()), tmp_path)
    assert {step.run.name for step in steps if step.todo} == {"statistics", "featuremaps", "tokens"}
    assert all(step.reason for step in steps if not step.todo)


def test_what_is_missing_is_computed_once_and_drawn(tmp_path, monkeypatch, capsys):
    # as far as a folder of its own goes; the commands themselves have their own tests
    words = (
        "fig9",
        "fig7",
        "--model",
        "dino_tiny",
        "--images",
        "photographs",
        "--limit",
        "1",
        "--output",
        "out",
        "--results",
        "res",
    )
    call(monkeypatch, tmp_path, *words)
    said = capsys.readouterr().out
    assert "── featuremaps: python -m analysis.featuremaps --model dino_tiny" in said
    assert "left out: fig7: maps_fig7: needs a model with a text tower" in said
    kept = results.read(tmp_path / "res/featuremaps.nc")
    assert kept.attrs["command"].startswith("python -m analysis.featuremaps --model dino_tiny")
    assert (tmp_path / "out/fig9.pdf").is_file()
    call(monkeypatch, tmp_path, *words)
    again = capsys.readouterr().out
    assert "featuremaps  finished" in again and "──" not in again


def test_a_run_that_fails_leaves_the_others_their_turn(tmp_path, capsys):
    step = command.Step(
        RUNS["featuremaps"], ("analysis.featuremaps", "--images", "nowhere"), tmp_path / "a.nc", "missing"
    )
    assert not command.compute(step)
    assert "nowhere" in capsys.readouterr().err


def test_ctrl_c_in_a_run_ends_the_command(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise SystemExit(130)

    monkeypatch.setattr("runpy.run_module", interrupted)
    with pytest.raises(SystemExit):
        command.compute(command.Step(RUNS["alpha"], ("analysis.alpha",), tmp_path / "a.nc", "missing"))


def test_help_is_quick(tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "figures", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "--against" in done.stdout
    assert not {"torch", "xarray", "matplotlib"} & {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
