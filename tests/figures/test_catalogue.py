"""The list of figures, tables and runs is whole, and its runs are what the doors understand."""

import json
from pathlib import Path

import pytest
import tyro
import xarray as xr
from test_main import written

from clearclip.cli import Result, Running, facts
from clearclip.errors import UserError
from figures.catalogue import ENTRIES, entries
from figures.runs import DEMO, RUNS, Choice, state

REAL = Choice(
    ("clip_vitb16", "clip_vitl14"), ("dino_vitb16",), ("voc20:data/voc", "ade20k:data/ade"), running=Running(10)
)


def options(name, choice, path="x.nc"):
    return facts(RUNS[name].options(choice, Result(Path(path))))


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_draws_from_runs_that_exist(name):
    entry = ENTRIES[name]
    assert callable(entry.draw) and entry.caption.endswith(".") and "  " not in entry.caption
    assert entry.needs and set(entry.needs) <= set(RUNS)


def test_every_run_is_needed():
    assert {need for entry in ENTRIES.values() for need in entry.needs} == set(RUNS)


@pytest.mark.parametrize("choice", [DEMO, REAL], ids=["demo", "real"])
@pytest.mark.parametrize("name", RUNS)
def test_the_command_that_is_told_gives_the_same_options(name, choice):
    run = RUNS[name]
    built = run.options(choice, Result(Path("x.nc")))
    program, _, module, *words = run.command(built).split()
    assert (program, module) == ("python", run.run.__module__.removesuffix(".__main__"))
    parsed = tyro.cli(type(built), args=words, config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes))
    assert parsed == built and set(built.models.model) <= set(choice.everyone)


def test_names():
    assert [entry.name for entry in entries(["fig4", "fig1"])] == ["fig4a", "fig4b", "fig4c", "fig1"]
    assert [entry.name for entry in entries()] == list(ENTRIES)
    with pytest.raises(UserError, match=r"'fig44'.*Closest: fig4"):
        entries(["fig44"])


def test_models_without_text_are_left_out_of_what_needs_it():
    assert options("ablation", REAL)["model"] == ["clip_vitb16", "clip_vitl14"]
    assert options("statistics", REAL)["model"] == ["clip_vitb16", "clip_vitl14", "dino_vitb16"]
    dino = Choice(("dinov2_vits14",), ())
    assert "text tower" in RUNS["ablation"].missing(dino) and "--dataset" in RUNS["prototypes"].missing(dino)
    assert RUNS["statistics"].missing(dino) == RUNS["featuremaps"].missing(dino) == ""


def test_checkpoints_go_with_their_models():
    choice = Choice(
        ("clip_vitb16",), ("dino_vitb16",), ("scenes",), checkpoint=(Path("-"), Path("dino.pt")), random=True
    )
    assert options("statistics", choice)["checkpoint"] == ["-", "dino.pt"] and options("statistics", choice)["random"]
    assert options("layers", choice)["checkpoint"] == []


@pytest.mark.parametrize(
    "datasets, source",
    [
        ((), "photographs"),
        (("scenes",), "photographs"),
        (("scenes", "voc20:data/voc"), "voc20:data/voc"),
        (("folder:mine",), "mine/images"),
    ],
)
def test_statistics_take_the_first_data_set_on_disk(datasets, source):
    choice = Choice(("clip_vitb16",), (), datasets)
    assert options("statistics", choice)["images"] == [source]
    assert options("featuremaps", choice)["limit"] == 2


def test_each_picture_figure_takes_the_benchmark_of_the_paper_or_other_pictures():
    maps = {name: options(name, REAL) for name in ("maps_fig7", "maps_fig10", "maps_fig11")}
    assert maps["maps_fig10"]["dataset"] == ["ade20k:data/ade"] and maps["maps_fig10"]["first"] == 0
    assert maps["maps_fig7"]["dataset"] == maps["maps_fig11"]["dataset"] == ["voc20:data/voc"]
    assert maps["maps_fig7"]["first"] != maps["maps_fig11"]["first"]


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({}, "finished"),
        ({"device": "cuda:1", "batch_size": 2, "output": "elsewhere/layers.nc", "strict": True}, "finished"),
        ({"limit": 33}, "other facts"),
        ({"model": ["clip_vitb16"]}, "other facts"),
        ({"door": "analysis.alpha"}, "other facts"),
        ({"precision": "bf16"}, "other facts"),
    ],
)
def test_a_run_is_finished_when_the_same_options_wrote_it(changed, expected, tmp_path):
    run, path = RUNS["layers"], tmp_path / "layers.nc"
    wanted = run.options(DEMO, Result(path))
    assert state(run, wanted, path) == "missing"
    written(run, path, **changed)
    assert state(run, wanted, path) == expected


def test_what_other_weights_or_another_program_wrote_is_not_finished(tmp_path):
    run, path = RUNS["layers"], tmp_path / "layers.nc"
    wanted = run.options(DEMO, Result(path))
    written(run, path)
    other = xr.load_dataset(path, engine="h5netcdf").assign_coords(weights_sha256=("model", ["0" * 64]))
    other.to_netcdf(path, engine="h5netcdf")
    assert state(run, wanted, path) == "other facts"
    for content in (b"half a file", None):
        xr.Dataset(attrs={"options": json.dumps({})}).to_netcdf(
            path, engine="h5netcdf"
        ) if content is None else path.write_bytes(content)
        assert state(run, wanted, path) == "other facts"
