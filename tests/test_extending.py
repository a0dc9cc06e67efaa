"""What CONTRIBUTING.md says: each thing that can be added is one entry, and is then found where a user looks for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from commands import here
from layouts import folder, photo, write
from matplotlib.figure import Figure
from sweeps import sweep

import analysis
import clearclip
from analysis.sweeps import recipe_lists
from clearclip.datasets import BENCHMARKS, Benchmark, Facts, facts, load, parse
from clearclip.datasets.files import names_in, pairs
from clearclip.evaluation import table
from clearclip.evaluation.protocol import PROTOCOLS, Level, Protocol
from clearclip.methods.windows import Windows
from clearclip.models.load import LIBRARIES
from clearclip.runs import results
from clearclip.verification import checks, expectations
from figures.catalogue import ENTRIES, Entry, entries

ROOT = Path(__file__).parents[1]
QUIET = {"prompts": "photo", "progress": False}


@pytest.fixture(scope="module")
def model():
    return clearclip.load("clip_tiny", device="cpu")


def printed(module, *words, cwd):
    """What a command prints, run in this process, where the new entry is."""
    done = here(module, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_statistic_is_found_in_the_dataset_and_its_figure(model, photos, monkeypatch):
    spread = analysis.Statistic(lambda x: x.std((-2, -1)), "spread", "model units")
    monkeypatch.setitem(analysis.STATISTICS, "spread", spread)
    dataset = analysis.collect(model, photos, ["entropy", "spread"], limit=2, progress=False)
    assert dataset.spread.attrs == {"long_name": "spread", "units": "model units"}
    assert dataset.spread.dims == dataset.entropy.dims and (dataset.spread > 0).all()
    figure = analysis.plots.layer_lines(dataset, variable="spread")
    assert "spread" in figure.axes[0].get_ylabel()


def test_a_model_family_is_found_by_its_name(photos, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests/clearclip/models")
    monkeypatch.setitem(LIBRARIES, "toy", "toy_library")
    words = ("--model", "toy:two", "--random", "--images", photos, "--limit", 2, "--output", tmp_path / "toy.nc")
    assert "toy:two: RANDOM WEIGHTS" in printed("analysis.entropy", *words, cwd=tmp_path)
    dataset = results.read(tmp_path / "toy.nc")
    assert dataset.architecture.item() == "toy:two" and dataset.layer.values.tolist() == [1, 2]
    with pytest.raises(clearclip.UserError, match=r"one of .*toy"):
        clearclip.load("toyy:two")


def test_a_recipe_is_found_by_its_name(model, tmp_path, monkeypatch):
    mine = clearclip.Recipe("mine", affinity="0.5*qq + 0.5*vv", residual=False, ffn=False)
    monkeypatch.setitem(clearclip.RECIPES, "mine", mine)
    dataset = clearclip.evaluate(model, load("scenes", count=2), ["clip", "mine"], **QUIET)
    assert dataset.recipe.values.tolist() == ["clip", "mine"]
    assert dataset.attention.sel(recipe="mine").item() == mine.affinity
    words = ("--limit", 2, "--prompts", "photo", "--device", "cpu", "--text-cache", "texts")
    assert "mine" in printed("clearclip.evaluate", "--recipe", "mine", *words, cwd=tmp_path)


def test_a_recipe_knob_is_found_in_the_dataset(tmp_path):
    """In a copy of the package: a field of `Recipe`, and one line that says what it does."""
    shutil.copytree(ROOT / "clearclip", tmp_path / "clearclip", ignore=shutil.ignore_patterns("__pycache__"))
    for file, before, line in (
        ("recipe.py", "    def __post_init__", "    shift: float = 0.0  # this much is added to every channel\n\n"),
        ("dense.py", "        normed = x if recipe.joins_normed", "        x = x + recipe.shift\n"),
    ):
        path = tmp_path / "clearclip/methods" / file
        start, found, rest = path.read_text("utf-8").partition(before)
        path.write_text(start + line + found + rest, "utf-8")
    code = (
        "import clearclip\n"
        "base = clearclip.RECIPES['clearclip']\n"
        "model, scenes = clearclip.load('clip_tiny', device='cpu'), clearclip.datasets.load('scenes', count=2)\n"
        "result = clearclip.evaluate(model, scenes, [base, base.variant(shift=9.0)], prompts='photo', progress=False)\n"
        "assert clearclip.Recipe.from_coords(result)['clearclip shift=9.0'] == base.variant(shift=9.0)\n"
        "result.to_netcdf('knob.nc', engine='h5netcdf')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    dataset = results.read(tmp_path / "knob.nc")
    assert dataset.recipe.values.tolist() == ["clearclip", "clearclip shift=9.0"]
    assert dataset["shift"].dims == ("recipe",) and dataset["shift"].values.tolist() == [0.0, 9.0]
    assert not dataset.union.isel(recipe=0).equals(dataset.union.isel(recipe=1))


class Fruit(Benchmark):
    """A benchmark in one file: facts, counts, the folder's tree and what its labels mean."""

    name = "fruit"
    facts = Facts("Fruit 3", background=True, threshold=0.3, half_windows=True)
    folder = "fruit"
    counts: ClassVar = {"val": (1,)}
    tree = "  pictures/1.jpg …\n  maps/1.png …\n"

    @classmethod
    def class_names(cls, names="clearclip"):
        return ["background", "apple", "ball"]

    def layout(self):
        pictures, maps = self.part("pictures"), self.part("maps")
        return pairs(names_in(pictures, ".jpg"), pictures, maps), {0: 0, 10: 1, 20: 2}


def test_a_benchmark_is_found_by_its_name(model, tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "fruit", Fruit)
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "data/fruit/pictures/1.jpg", 64, 64)
    write(tmp_path / "data/fruit/maps/1.png", np.repeat([0, 10, 20, 0], 16)[None].repeat(64, 0))

    fruit = parse("fruit")
    assert fruit[0].label[0, ::16].tolist() == [0, 1, 2, 0]
    assert facts("fruit").title == "Fruit 3" and facts("fruit").background
    protocol = PROTOCOLS["clearclip"]
    assert protocol.windows("fruit", model).crop * 2 == protocol.windows("scenes", model).crop
    dataset = clearclip.evaluate(model, fruit, "clearclip", **QUIET)
    assert dataset.dataset.item() == "fruit" and dataset.threshold.item() == 0.3
    assert dataset["class"].values.tolist() == Fruit.class_names()

    assert "fruit" in printed("clearclip.datasets", "list", cwd=tmp_path)
    assert "no faults" in printed("clearclip.datasets", "check", "fruit", "data/fruit", cwd=tmp_path)


def test_a_protocol_is_found_by_its_name(model, monkeypatch):
    mine = Protocol("mine", Windows(224, 1024, 112, 56), levels={"scenes_background": Level(0.05, 20.0)})
    monkeypatch.setitem(PROTOCOLS, "mine", mine)
    dataset = clearclip.evaluate(model, load("scenes_background", count=1), "clearclip", protocol="mine", **QUIET)
    assert dataset.protocol.item() == "mine" and dataset.windows.item() == str(mine.windows("scenes", model))
    assert mine.windows("scenes", model).crop * 4 == PROTOCOLS["clearclip"].windows("scenes", model).crop
    assert (dataset.threshold.item(), dataset.scale.item()) == (0.05, 20.0)
    assert "protocol mine" in table.report(dataset)


def test_a_folder_of_ones_own_is_a_data_set(model, tmp_path):
    dataset = clearclip.evaluate(
        model, parse(str(folder(tmp_path / "mine", [0, 1], "apple", "grass"))), "clip", **QUIET
    )
    assert dataset.dataset.item() == "mine" and dataset["class"].values.tolist() == ["apple", "grass"]
    assert facts("mine") == Facts("mine")


def bars(dataset: xr.Dataset) -> Figure:
    """Two bars, as short as a figure can be."""
    figure = Figure()
    figure.subplots().bar(dataset.recipe.values, dataset.miou.squeeze().values)
    return figure


def test_a_figure_is_found_on_the_page(tmp_path, monkeypatch):
    monkeypatch.setitem(ENTRIES, "fig12", Entry("fig12", ("alpha",), bars, "Fig. 12. Bars.\n\nTwo of them."))
    results.write(sweep(recipe_lists.alpha()[:2]), tmp_path / "alpha.nc")
    words = ("fig12", "--data", tmp_path, "--output", tmp_path / "drawn")
    assert "wrote 1 figures" in printed("figures", *words, cwd=tmp_path)
    assert "Two of them." in (tmp_path / "drawn/index.html").read_text("utf-8")
    assert (tmp_path / "drawn/fig12.pdf").is_file() and (tmp_path / "drawn/fig12.png").is_file()
    with pytest.raises(clearclip.UserError, match=r"All: .*fig12"):
        entries(["figg"])


DOOR = '''
"""How far do the values spread? Their standard deviation.

python -m spread --model clip_tiny
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from analysis import Statistic, commands
from clearclip import cli


@dataclass(frozen=True, kw_only=True)
class Options(commands.StatisticsOptions):
    """Which models, which pictures, and where the results go."""

    result: cli.Result = cli.Result(Path("results/spread.nc"))


def run(options):
    """The standard deviation of every map."""
    return commands.statistics(options, {"spread": Statistic(lambda x: x.std((-2, -1)), "spread", "model units")})


def main() -> None:
    """The command `python -m spread`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots

    commands.present_statistics(run, options, {"spread": partial(plots.layer_lines, variable="spread")})


if __name__ == "__main__":
    cli.run(main)
'''


def test_a_published_number_is_found_by_the_command_that_verifies(tmp_path, monkeypatch):
    known = expectations.Expectation("entropies", "mean entropy", (0.5,), 0.1, "a later paper")
    monkeypatch.setitem(checks.CHECKS, "entropies", lambda model, pictures: [0.55])
    monkeypatch.setattr(expectations, "everything", lambda: [("clip_tiny", known)])
    text = printed("clearclip.verify", "clip_tiny", cwd=tmp_path)
    assert "clip_tiny: agrees: mean entropy" in text and "a later paper" in text


def test_a_command_is_found_with_its_help_its_dataset_and_its_figure(photos, tmp_path, monkeypatch):
    (tmp_path / "spread.py").write_text(DOOR, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = printed("spread", "--help", cwd=tmp_path)
    assert "How far do the values spread?" in text and "python -m spread" in text and "--batch-size" in text
    assert "spread" in printed("spread", "--model", "clip_tiny", "--images", photos, "--limit", 2, cwd=tmp_path)
    dataset = results.read(Path("results/spread.nc"))
    options = json.loads(dataset.attrs["options"])
    assert options["door"] == "spread" and options["limit"] == 2 and options["model"] == ["clip_tiny"]
    assert dataset.attrs["command"].startswith("python -m spread --model clip_tiny")
    assert Path("results/spread.csv").is_file() and Path("results/spread.png").is_file()
