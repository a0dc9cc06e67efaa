"""The commands that measure what is inside the blocks."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from commands import files, here, process
from PIL import Image

import clearclip.zoo
from analysis import read_rows
from analysis.probes import store
from clearclip.runs import results

MODEL = "timm:test_vit.r160_in1k"
RANDOM = ("--model", MODEL, "--random", "--image-size", "32", "--limit", "2")
COMMANDS = {
    "statistics": ("--layers", "5", "6"),
    "entropy": (),
    "maxima": ("--tokens", "all"),
    "channels": ("--normalization", "max"),
    "norms": ("--layers", "1", "6"),
    "tokens": ("--map-layer", "3"),
    "featuremaps": ("--layers", "6"),
    "similarity": ("--at", "0.9", "0.1"),
    "peaks": ("--feature", "X_sum", "--among", "patches"),
    "pca": ("--layers", "1", "6", "--features", "X_attn", "X_sum", "--components", "4"),
    "attention": ("--affinity", "qk", "vv", "--heads", "1", "2", "--query", "0", "1"),
}
FORMAT = {
    "pca": "PCA maps",
    "featuremaps": "feature maps",
    "similarity": "similarity",
    "attention": "attention",
    "peaks": "peaks",
}
SEVERAL = {"statistics": ("_entropy", "_maximum", "_frobenius_norm", "_channel_dominance")}  # figures of one command


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, tmp_path):
    done = here(f"analysis.{command}", *RANDOM, *COMMANDS[command], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RANDOM WEIGHTS" in done.stdout
    figures = [f"{command}{part}.png" for part in SEVERAL.get(command, ("",))]
    written = [f"results/{name}" for name in (f"{command}.nc", f"{command}.csv", *figures)]
    assert files(tmp_path) == sorted(written)
    assert f"wrote {', '.join(written)}\n" in done.stdout
    dataset = results.read(tmp_path / "results" / f"{command}.nc")
    assert dataset.attrs["format"] == f"clearclip {FORMAT.get(command, 'statistics')} 1"
    assert dataset.attrs["command"].startswith(f"python -m analysis.{command} --model {MODEL}")
    assert dataset.random_weights.all() and dataset.attrs["images"] == 2
    rows = pd.read_csv(tmp_path / "results" / f"{command}.csv")
    assert (
        read_rows(tmp_path / f"results/{command}.nc").to_csv(index=False)
        == (tmp_path / f"results/{command}.csv").read_text()
    )
    assert len(rows) and rows.model.eq(MODEL).all() and rows.random_weights.all()
    for name in figures:
        with Image.open(tmp_path / "results" / name) as picture:
            assert min(picture.size) > 300
    again = here(f"analysis.{command}", "--data", f"results/{command}.nc", "--figure", "again.pdf", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    for part in SEVERAL.get(command, ("",)):
        assert (tmp_path / f"again{part}.pdf").read_bytes().startswith(b"%PDF")


def test_several_models_own_pictures_and_a_broken_one(photos, tmp_path):
    (photos / "ünïcode bröken.jpg").write_bytes(b"\xff\xd8 no picture")
    words = ("--model", "dino_vits16", MODEL, "--random", "--image-size", "32", "--images", photos)
    done = process("-m", "analysis.entropy", *words, "--output", "mine.nc", "--figure", "mine.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ünïcode bröken.jpg" in done.stderr + done.stdout and "skipped 1 picture" in done.stdout
    dataset = store.read(tmp_path / "mine.nc")
    assert dataset.sizes["model"] == 2 and dataset.sizes["image"] == 9
    assert "<svg" in (tmp_path / "mine.svg").read_text()
    refused = here("analysis.entropy", *words, "--strict", cwd=tmp_path)
    assert refused.returncode == 2 and "ünïcode bröken.jpg" in refused.stderr


def test_the_small_models_are_named_below_the_table_unless_a_file_gave_their_weights(tmp_path):
    names = ("clip_tiny", "dino_tiny")
    torch.save(clearclip.load("dino_tiny").model.state_dict(), tmp_path / "mine.pt")
    words = ("--layers", "6", "--limit", "1", "--checkpoint", "-", "mine.pt")
    done = here("analysis.entropy", "--model", *names, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "differs from the paper" in line]
    assert lines == [
        "clip_tiny: small, trained on drawn scenes; where it differs from the paper: clearclip/zoo/weights/clip_tiny.md"
    ]
    assert all((Path(clearclip.zoo.__file__).parent / "weights" / f"{name}.md").is_file() for name in names)


MISTAKES = {
    "unknown model": (("--model", "dino_vitb15"), "dino_vitb16"),
    "unknown timm model": (("--model", "timm:vit_bse_patch16_224.dino"), "vit_base_patch16_224"),
    "model twice": (("--model", "dino_vits16", "dino_vits16"), "twice"),
    "no folder": (("--model", "dino_vits16", "--random", "--images", "nowhere"), "nowhere"),
    "wrong size": ((*RANDOM, "--image-size", "100"), "96 or 112"),
    "wrong layer": ((*RANDOM, "--layers", "0"), "1 … 6"),
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
    done = here("analysis.entropy", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert hint in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command, words, hint",
    [
        ("attention", ("--heads", "7"), "heads 1 … 2"),
        ("attention", ("--query", "9", "0"), "2 × 2 patches"),
        ("tokens", ("--map-layer", "13"), "1 … 6"),
        ("pca", ("--components", "8"), "8 patches of X_res in layer 6 have at most 7"),
        ("pca", ("--foreground",), "2 × 2 patches"),
    ],
)
def test_mistakes_of_single_commands(command, words, hint, tmp_path):
    done = here(f"analysis.{command}", *RANDOM, *words, cwd=tmp_path)
    assert done.returncode == 2 and hint in done.stderr


@pytest.mark.parametrize("source", ["photos", "photos/photo_0.png"])
def test_a_figure_never_replaces_a_picture(source, photos, tmp_path):
    before = (photos / "photo_0.png").read_bytes()
    words = ("--images", source, "--output", "photos/photo_0.nc")
    done = here("analysis.featuremaps", *RANDOM, *words, cwd=tmp_path)
    assert done.returncode == 2 and f"photos/photo_0.png is one of the pictures of {source}" in done.stderr
    assert (photos / "photo_0.png").read_bytes() == before and not (photos / "photo_0.nc").exists()


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    done = process("-m", "analysis.entropy", "--model", "dino_vits16", "--random", "--images", "nowhere", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: nowhere") and "Traceback" not in done.stderr


INTERRUPTED = """
import os, runpy, signal
from clearclip.runs import stream, unfinished_files

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
write = unfinished_files.write
stream.SAVE_EVERY = 0

def write_and_press(*given):
    write(*given)
    os.kill(os.getpid(), signal.SIGINT)

unfinished_files.write = write_and_press
runpy.run_module("analysis.entropy", run_name="__main__", alter_sys=True)
"""


def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(photos, tmp_path):
    """A real SIGINT after the first write."""
    words = ("--model", "dino_vits16", "--random", "--image-size", "32", "--images", photos, "--batch-size", "1")
    done = process("-c", INTERRUPTED, *words, cwd=tmp_path)
    kept = tmp_path / "results" / ".entropy.nc.dino_vits16.unfinished.nc"
    assert done.returncode == 130 and "continues with the same command" in done.stderr
    assert "Traceback" not in done.stderr and kept.is_file()
    done = here("analysis.entropy", *words, cwd=tmp_path)
    assert done.returncode == 0 and not kept.exists()
    assert store.read(tmp_path / "results" / "entropy.nc").sizes["image"] == 9
