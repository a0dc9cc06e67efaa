"""`python -m figures`, as a user runs it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from commands import files, here, process
from PIL import Image
from safetensors.torch import save_file
from sweeps import sweep

import clearclip
from analysis.sweeps import recipe_lists
from clearclip.cli import Result, facts
from clearclip.commands import door_of
from clearclip.runs import results
from figures import plan
from figures.catalogue import entries
from figures.runs import DEMO, RUNS, Choice

ONE_PHOTOGRAPH = (
    *("--model", "dino_tiny", "--images", "photographs", "--limit", "1"),
    *("--output", "out", "--results", "res"),
)


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
        "precision": ("model", ["fp32"] * 2),
        "preprocessing": ("model", ["{}"] * 2),
        "patch_size": ("model", [8, 16]),
        "prefix_tokens": ("model", [1, 1]),
        "image_size": ("model", [64, 224]),
        "rows": ("model", [8, 14]),
        "columns": ("model", [8, 14]),
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
        "image_list_sha256": "3" * 64,
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


def written(run, path, **changed):
    """A Dataset at a path that says it was written by a run of the shipped models, but for some options."""
    options = run.options(DEMO, Result(path))
    models = {name: clearclip.load(name).weights.sha256 for name in options.models.model}
    coords = {"model": list(models), "weights_sha256": ("model", list(models.values()))}
    about = {"door": door_of(run.run), **facts(options), **changed}
    results.write(xr.Dataset(coords=coords, attrs={"options": json.dumps(about)}), path)


def test_named_figures_from_finished_data(data, tmp_path):
    done = process("-m", "figures", "fig4a", "table1", "--data", "data", cwd=tmp_path)
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
    done = here("figures", "fig4x", "--data", ".", cwd=tmp_path)
    assert done.returncode == 2 and "Closest: fig4" in done.stderr
    assert not list(tmp_path.iterdir())


def test_one_file_serves_what_reads_one(data, tmp_path):
    assert here("figures", "fig4", "--data", data / "statistics.nc", "--output", "out", cwd=tmp_path).returncode == 0
    assert {"fig4a.png", "fig4b.png", "fig4c.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    done = here("figures", "fig3", "--data", data / "statistics.nc", cwd=tmp_path)
    assert done.returncode == 2 and "fig3 reads 2 Datasets" in done.stderr
    done = here("figures", "table1", "--data", data / "statistics.nc", cwd=tmp_path)
    assert done.returncode == 2 and "statistics.nc holds statistics, not a sweep" in done.stderr


def test_a_missing_run_is_told_with_its_command(data, tmp_path):
    done = here("figures", "fig6", "--data", data, cwd=tmp_path)
    assert done.returncode == 2 and "alpha.nc is missing" in done.stderr
    assert "python -m analysis.alpha --dataset scenes scenes_things scenes_background" in done.stderr
    done = here("figures", "--data", data, cwd=tmp_path)
    assert "left out: fig6" in done.stdout and "left out: fig4a" not in done.stdout
    assert "alpha.nc is missing" in (tmp_path / "figures/output/index.html").read_text()
    done = here("figures", "fig6", "--data", "lost", cwd=tmp_path)
    assert done.returncode == 2 and "no such folder" in done.stderr


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
def test_mistakes(words, hint, tmp_path):
    done = here("figures", *words, cwd=tmp_path)
    assert done.returncode == 2 and hint in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_plan_says_what_is_there_and_what_will_be_computed(tmp_path):
    folder = tmp_path / "there"
    written(RUNS["statistics"], folder / "statistics.nc")
    done = here("figures", "fig4a", "fig7", "fig9", "--plan", "--results", folder, cwd=tmp_path)
    assert "statistics   finished" in done.stdout
    assert f"python -m analysis.maps --output {folder}/maps_fig7.nc\n" in done.stdout
    assert f"python -m analysis.featuremaps --images photographs scenes --limit 1 --output {folder}" in done.stdout
    assert "4 images, about" in done.stdout and "to compute: 2 runs, about" in done.stdout
    assert files(folder) == ["statistics.nc"]


def test_a_model_without_text_draws_what_needs_none(tmp_path):
    steps = plan.plan(entries(), Choice(("dino_tiny",), ()), tmp_path)
    assert {step.run.name for step in steps if step.todo} == {"statistics", "featuremaps", "tokens"}
    assert all(step.reason for step in steps if not step.todo)


def test_what_is_missing_is_computed_once_and_drawn(tmp_path):
    # as far as a folder of its own goes; the commands themselves have their own tests
    words = ("fig9", "fig7", *ONE_PHOTOGRAPH)
    done = here("figures", *words, cwd=tmp_path)
    assert "── featuremaps: python -m analysis.featuremaps --model dino_tiny" in done.stdout
    assert "left out: fig7: maps_fig7: needs a model with a text tower" in done.stdout
    kept = results.read(tmp_path / "res/featuremaps.nc")
    assert kept.attrs["command"].startswith("python -m analysis.featuremaps --model dino_tiny")
    assert (tmp_path / "out/fig9.pdf").is_file()
    again = here("figures", *words, cwd=tmp_path)
    assert "featuremaps  finished" in again.stdout and "──" not in again.stdout


def test_a_run_that_fails_leaves_the_others_their_turn(tmp_path, capsys):
    lost = Choice(images=("nowhere",))
    (step,) = plan.plan(entries(["fig9"]), lost, tmp_path)
    assert not plan.compute(step)
    assert "nowhere" in capsys.readouterr().out


def test_ctrl_c_in_a_run_ends_the_command(tmp_path):
    def interrupted(options):
        raise KeyboardInterrupt

    step = plan.Step(
        replace(RUNS["alpha"], run=interrupted), RUNS["alpha"].options(DEMO, Result(tmp_path / "a.nc")), tmp_path, ""
    )
    with pytest.raises(KeyboardInterrupt):
        plan.compute(step)


def test_a_figure_is_drawn_as_soon_as_its_data_are_there(tmp_path, monkeypatch):
    """The first run's figure is there although the second run is interrupted."""
    monkeypatch.setattr(
        "figures.plan.RUNS", {"featuremaps": RUNS["featuremaps"], "tokens": interrupting(RUNS["tokens"])}
    )
    words = ("fig9", "tokens", *ONE_PHOTOGRAPH)
    assert here("figures", *words, cwd=tmp_path).returncode == 130
    assert (tmp_path / "out/fig9.pdf").is_file() and not (tmp_path / "out/tokens.pdf").exists()


def interrupting(run):
    def interrupted(options):
        raise KeyboardInterrupt

    return replace(run, run=interrupted)


def test_two_checkpoints_with_labels_are_drawn_and_found_again(photos, tmp_path):
    tiny = "timm:test_vit.r160_in1k"
    for seed, name in enumerate(("before", "after")):
        save_file(clearclip.load(tiny, random=True, seed=seed).model.state_dict(), tmp_path / f"{name}.safetensors")
    models = [f"{name}={tiny}:{name}.safetensors" for name in ("before", "after")]
    words = ("fig4a", "--model", *models, "--images", photos, "--limit", 2, "--output", "drawn")
    done = here("figures", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    dataset = results.read(tmp_path / "results/figures/before/statistics.nc")
    assert dataset.model.values.tolist() == ["before", "after"] and (tmp_path / "drawn/fig4a.pdf").is_file()
    assert "statistics   finished" in here("figures", *words, "--plan", cwd=tmp_path).stdout
    (tmp_path / "after.safetensors").write_bytes((tmp_path / "before.safetensors").read_bytes())
    assert "computed from other facts" in here("figures", *words, "--plan", cwd=tmp_path).stdout
