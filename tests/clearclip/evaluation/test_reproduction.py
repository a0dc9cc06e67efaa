"""A measured mIoU beside the published one; small pictures in VOC's layout stand in for the benchmark."""

import numpy as np
import pytest
import xarray as xr
from commands import here
from layouts import voc

import clearclip
from clearclip.datasets import load
from clearclip.errors import UserError
from clearclip.evaluation import reproduction
from clearclip.evaluation.bootstrap import interval
from clearclip.evaluation.published import Printed
from clearclip.evaluation.reproduction import Outcome, expected, outcomes
from clearclip.evaluation.run import evaluate
from clearclip.evaluation.table import merge

PRINTED = Printed(80.9, "Table 2", "ClearCLIP", "run")


@pytest.fixture(scope="module")
def result():
    model, scenes = clearclip.load("clip_tiny", device="cpu"), load("scenes", count=5)
    return evaluate(model, scenes, ["clip", "clearclip"], prompts="photo", per_image=True, progress=False)


def test_pictures_add_up_to_the_whole(result):
    for name in ("intersection", "union"):
        assert (result[f"image_{name}"].sum("image") == result[name]).all()
    assert result.sizes["image"] == 5 and len(set(result.image.values)) == 5
    assert not {"image", "image_union"} & {*merge([result, result.assign_coords(dataset=["other"])]).variables}


def test_interval_equals_drawing_pictures_one_by_one(result):
    areas = [result[f"image_{name}"].isel(model=0, dataset=0, recipe=1).values for name in ("intersection", "union")]
    generator, drawn = np.random.default_rng(1), []
    for _ in range(2000):
        rows = generator.integers(0, 5, 5)
        intersection, union = (area[rows].sum(0) for area in areas)
        drawn.append(100 * np.mean(intersection[union > 0] / union[union > 0]))
    low, high = interval(*areas)
    assert np.allclose([low, high], np.quantile(drawn, [0.025, 0.975]), atol=0.7)
    assert low < result.miou.values[0, 0, 1] < high
    assert interval(*areas) == (low, high)


@pytest.mark.parametrize(
    ("measured", "complete", "printed", "differs", "words"),
    [
        (80.7, True, PRINTED, False, "published 80.9, measured 80.7, difference -0.2, within ± 0.3"),
        (80.1, True, PRINTED, True, "difference -0.8, NOT within ± 0.3"),
        (70.0, False, PRINTED, False, "9 pictures: 95 % interval 69.0 … 71.0 (bootstrap over pictures), the published number is"),
        (80.5, False, PRINTED, False, "the published number is inside"),
        (70.0, True, PRINTED._replace(origin="quoted from TCL"), False, "quoted from TCL, so under another protocol"),
        (float("nan"), True, PRINTED, True, "NOT within"),
    ],
)  # fmt: skip
def test_a_sentence_says_what_can_be_said(measured, complete, printed, differs, words):
    outcome = Outcome("clearclip", "VOC20", printed, measured, measured - 1, measured + 1, 9, complete)
    assert outcome.differs == differs and words in str(outcome)
    assert str(outcome).startswith("Table 2, row ClearCLIP, VOC20: published 80.9")


def test_only_what_the_paper_prints_is_compared():
    clip = "open_clip:ViT-B-16-quickgelu/openai"
    assert list(expected(clip, "voc20", ["clip", "naclip", "clearclip"])) == ["clip", "clearclip"]
    for architecture, dataset, recipe, words in [
        ("zoo:clip_tiny", "voc20", "clip", "numbers of the models clip_vitb16"),
        (clip, "voc20", "naclip", "numbers of the recipes clip"),
        (clip, "scenes", "clip", "benchmarks are voc20"),
    ]:
        with pytest.raises(UserError, match=words):
            expected(architecture, dataset, [recipe])


def test_the_command_tells_a_partial_measurement_from_a_complete_one(tmp_path, tiny_clip, monkeypatch):
    voc(tmp_path / "data/voc", [0, 1, 2, 255])
    printed = {recipe: PRINTED._replace(method=recipe) for recipe in ("clip", "clearclip")}
    monkeypatch.setattr(reproduction, "expected", lambda *_: printed)
    words = (
        "voc20",
        "--model",
        tiny_clip,
        "--random",
        "--prompts",
        "photo",
        "--text-cache",
        tmp_path / "texts",
        "--partial",
    )
    done = here("clearclip.reproduce", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = here("clearclip.reproduce", "voc20:data/voc", *words[1:], "--device", "cpu", cwd=tmp_path)
    assert "holds this already" not in again.stdout and again.returncode == 0
    assert (
        "python -m clearclip.reproduce voc20:data/voc --model"
        in xr.load_dataset(tmp_path / "results/reproduce.nc").command
    )
    done = here("clearclip.reproduce", *words, cwd=tmp_path)
    assert "partial, " in done.stdout and "RANDOM WEIGHTS" in done.stdout and "windows" in done.stdout
    dataset = xr.load_dataset(tmp_path / "results/reproduce.nc", engine="h5netcdf")
    count = dataset.images.item()
    command = dataset.attrs["command"]
    assert "clearclip.reproduce --model" in command and "--partial" in command  # the data set is the door's own default
    assert all(outcome.differs for outcome in outcomes(dataset, printed, [count]))
    assert not any(outcome.differs for outcome in outcomes(dataset, printed, [count + 1]))


def test_mistakes_are_said_before_anything_is_loaded(tmp_path):
    for words in (("voc20", "--model", "dino_vits16"), ("voc20", "--model", "clip_vitb16", "clip_vitl14"), ("scenes",)):
        done = here("clearclip.reproduce", *words, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
