"""Every command, run as a user runs it."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from analysis.probes import store

RANDOM = ("--model", "dino_vits16", "--random", "--image-size", "32", "--limit", "2")
COMMANDS = {
    "entropy": (),
    "maxima": ("--tokens", "all"),
    "channels": ("--normalization", "max"),
    "norms": ("--layers", "1", "12"),
    "tokens": ("--map-layer", "3"),
    "featuremaps": ("--layers", "12"),
    "similarity": ("--at", "0.9", "0.1"),
    "attention": ("--affinity", "qk", "vv", "--heads", "1", "3", "--query", "0", "1"),
}


def run(*words, cwd, **env):
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, env={**os.environ, **env}, timeout=300
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, tmp_path):
    done = run(f"analysis.{command}", *RANDOM, *COMMANDS[command], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RANDOM WEIGHTS" in done.stdout
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == [f"results/{command}.{suffix}" for suffix in ("csv", "nc", "png")]
    assert f"wrote results/{command}.nc, results/{command}.csv, results/{command}.png" in done.stdout
    dataset = store.read(tmp_path / "results" / f"{command}.nc")
    assert dataset.attrs["command"].startswith(f"python -m analysis.{command} --model dino_vits16")
    assert dataset.random_weights.all() and dataset.attrs["images"] == 2
    rows = pd.read_csv(tmp_path / "results" / f"{command}.csv")
    assert len(rows) and rows.model.eq("dino_vits16").all() and rows.random_weights.all()
    with Image.open(tmp_path / "results" / f"{command}.png") as picture:
        assert min(picture.size) > 300
    again = run(f"analysis.{command}", "--data", f"results/{command}.nc", "--figure", "again.pdf", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again.pdf").read_bytes().startswith(b"%PDF")


def test_several_models_own_pictures_and_a_broken_one(photos, tmp_path):
    (photos / "ünïcode bröken.jpg").write_bytes(b"\xff\xd8 no picture")
    words = (
        "--model",
        "dino_vits16",
        "timm:test_vit.r160_in1k",
        "--random",
        "--image-size",
        "32",
        "--images",
        str(photos),
    )
    done = run("analysis.entropy", *words, "--output", "mine.nc", "--figure", "mine.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ünïcode bröken.jpg" in done.stderr + done.stdout and "skipped 1 picture" in done.stdout
    dataset = store.read(tmp_path / "mine.nc")
    assert dataset.sizes["model"] == 2 and dataset.sizes["image"] == 9
    assert "<svg" in (tmp_path / "mine.svg").read_text()
    refused = run("analysis.entropy", *words, "--strict", cwd=tmp_path)
    assert refused.returncode == 2 and "ünïcode bröken.jpg" in refused.stderr


MISTAKES = {
    "unknown model": (("--model", "dino_vitb15"), "dino_vitb16"),
    "unknown timm model": (("--model", "timm:vit_bse_patch16_224.dino"), "vit_base_patch16_224"),
    "model twice": (("--model", "dino_vits16", "dino_vits16"), "twice"),
    "no folder": (("--model", "dino_vits16", "--random", "--images", "nowhere"), "nowhere"),
    "wrong size": (("--model", "dino_vits16", "--random", "--image-size", "100"), "96 or 112"),
    "wrong layer": (("--model", "dino_vits16", "--random", "--layers", "0"), "1 … 12"),
    "wrong suffix": ((*RANDOM, "--figure", "x.gif"), ".pdf"),
    "output is no netcdf": ((*RANDOM, "--output", "x.csv"), ".nc"),
    "no checkpoint": (("--model", "dino_vits16", "--checkpoint", "lost.pt"), "lost.pt"),
    "two checkpoints": (("--model", "dino_vits16", "--checkpoint", "a.pt", "b.pt"), "one for each"),
    "checkpoint and random": ((*RANDOM, "--checkpoint", "lost.pt"), "lost.pt"),
    "no data": (("--data", "lost.nc"), "lost.nc"),
    "wrong device": ((*RANDOM, "--device", "abacus"), "abacus"),
    "unknown option": (("--modle", "dino_vits16"), "--modle"),
    "no number": (("--limit", "many"), "many"),
    "limit of nothing": ((*RANDOM[:-1], "0"), "at least one"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_message_and_exit_code_2(mistake, tmp_path):
    words, hint = MISTAKES[mistake]
    done = run("analysis.entropy", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert hint in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command, words, hint",
    [
        ("attention", ("--heads", "7"), "heads 1 … 6"),
        ("attention", ("--query", "9", "0"), "2 × 2 patches"),
        ("tokens", ("--map-layer", "13"), "1 … 12"),
    ],
)
def test_mistakes_of_single_commands(command, words, hint, tmp_path):
    done = run(f"analysis.{command}", *RANDOM, *words, cwd=tmp_path)
    assert done.returncode == 2 and hint in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_import_torch(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"analysis.{command}", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "--model" in done.stdout
    assert not {"torch", "xarray", "pandas", "matplotlib"} & {
        line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()
    }


def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(photos, tmp_path):
    import signal
    import time

    script = (
        "import clearclip.runs.stream as s, runpy; s.SAVE_EVERY = 0; "
        "runpy.run_module('analysis.entropy', run_name='__main__')"
    )
    words = ["--model", "dino_vits16", "--random", "--image-size", "32", "--images", str(photos), "--batch-size", "1"]
    process = subprocess.Popen([sys.executable, "-c", script, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    kept = tmp_path / "results" / ".entropy.dino_vits16.unfinished.nc"
    while not kept.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    message = process.communicate()[1]
    if process.returncode == 0:
        pytest.skip("the run had ended before Ctrl-C reached it")
    assert process.returncode == 130 and "continue with the same command" in message and "Traceback" not in message
    done = run("analysis.entropy", *words, cwd=tmp_path)
    assert done.returncode == 0 and not kept.exists()
    assert store.read(tmp_path / "results" / "entropy.nc").sizes["image"] == 9
