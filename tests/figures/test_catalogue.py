"""The list of figures, tables and runs is whole, and its command lines are what the commands understand."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import xarray as xr

from clearclip.errors import UserError
from figures import catalogue
from figures.catalogue import DEMO, ENTRIES, RUNS, Choice, entries, facts, state

FOLDER = Path(catalogue.__file__).parent
REAL = Choice(("clip_vitb16", "clip_vitl14"), ("dino_vitb16",), ("voc20:data/voc", "ade20k:data/ade"), limit=10)


def test_every_module_that_draws_is_listed():
    drawing = {path.stem for path in FOLDER.glob("*.py") if "\nNEEDS = " in path.read_text()}
    assert drawing == set(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_draws_from_runs_that_exist(name):
    entry = ENTRIES[name]
    assert callable(getattr(entry.module, entry.kind)) and entry.caption.strip().endswith(".")
    assert entry.needs and set(entry.needs) <= set(RUNS)
    assert hasattr(entry.module, "table") == (entry.kind == "table")


def test_every_run_is_needed():
    assert {need for entry in ENTRIES.values() for need in entry.needs} == set(RUNS)


@pytest.mark.parametrize("choice", [DEMO, REAL], ids=["demo", "real"])
@pytest.mark.parametrize("name", RUNS)
def test_the_commands_understand_their_arguments(name, choice, monkeypatch):
    import tyro

    module = import_module(RUNS[name].command)
    understood = []

    def parse(kind, description):
        understood.append(tyro.cli(kind, args=sys.argv[1:], config=(tyro.conf.FlagCreatePairsOff,)))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "options", parse)
    monkeypatch.setattr(sys, "argv", RUNS[name].words(choice, Path("x.nc")))
    with pytest.raises(KeyboardInterrupt):
        module.main()
    assert understood[0].output == Path("x.nc")
    assert set(understood[0].model) <= set(choice.everyone)


def test_names():
    assert [entry.name for entry in entries(["fig4", "fig1"])] == ["fig4a", "fig4b", "fig4c", "fig1"]
    assert [entry.name for entry in entries()] == list(ENTRIES)
    with pytest.raises(UserError, match=r"'fig44'.*Closest: fig4"):
        entries(["fig44"])


def test_models_without_text_are_left_out_of_what_needs_it():
    assert facts(RUNS["ablation"].words(REAL, Path("a.nc")))["model"] == ("clip_vitb16", "clip_vitl14")
    assert facts(RUNS["statistics"].words(REAL, Path("a.nc")))["model"] == ("clip_vitb16", "clip_vitl14", "dino_vitb16")
    dino = Choice(("dinov2_vits14",), ())
    assert "text tower" in RUNS["ablation"].missing(dino) and "--dataset" in RUNS["prototypes"].missing(dino)
    assert RUNS["statistics"].missing(dino) == RUNS["featuremaps"].missing(dino) == ""


def test_checkpoints_go_with_their_models():
    choice = Choice(
        ("clip_vitb16",), ("dino_vitb16",), ("scenes",), checkpoint=(Path("-"), Path("dino.pt")), random=True
    )
    words = facts(RUNS["statistics"].words(choice, Path("a.nc")))
    assert words["checkpoint"] == ("-", "dino.pt") and words["random"] == ()
    assert "checkpoint" not in facts(RUNS["layers"].words(choice, Path("a.nc")))


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
    assert facts(RUNS["statistics"].words(choice, Path("a.nc")))["images"] == (source,)
    assert facts(RUNS["featuremaps"].words(choice, Path("a.nc")))["limit"] == ("2",)


def test_each_picture_figure_takes_the_benchmark_of_the_paper_or_other_pictures():
    shown = {name: facts(RUNS[name].words(REAL, Path("a.nc"))) for name in ("maps_fig7", "maps_fig10", "maps_fig11")}
    assert shown["maps_fig10"]["dataset"] == ("ade20k:data/ade",) and "first" not in shown["maps_fig10"]
    assert shown["maps_fig7"]["dataset"] == shown["maps_fig11"]["dataset"] == ("voc20:data/voc",)
    assert shown["maps_fig7"]["first"] != shown["maps_fig11"]["first"]


def test_a_run_is_finished_when_the_same_facts_wrote_it(tmp_path):
    run, path = RUNS["layers"], tmp_path / "layers.nc"
    assert state(run.words(DEMO, path), path) == "missing"
    command = " ".join(["python -m", *run.words(DEMO, Path("elsewhere/layers.nc"))])
    for said, expected in [
        (command, "finished"),
        (f"{command} --device cuda:1 --batch-size=2", "finished"),
        (command.replace("--limit 32", "--limit 33"), "other facts"),
        (command.replace("clip_tiny", "clip_vitb16"), "other facts"),
        (command.replace("layers ", "alpha ", 1), "other facts"),
        ("", "other facts"),
    ]:
        xr.Dataset(attrs={"command": said}).to_netcdf(path, engine="h5netcdf")
        assert state(run.words(DEMO, path), path) == expected, said
    path.write_bytes(b"half a file")
    assert state(run.words(DEMO, path), path) == "other facts"
