"""What CONTRIBUTING.md says: each thing that can be added is one entry, and is then found where a user looks for it."""

from typing import ClassVar

import numpy as np
import pytest
from commands import here
from layouts import folder, photo, write

import analysis
import clearclip
from clearclip.datasets import BENCHMARKS, Benchmark, Facts, facts, load, parse
from clearclip.datasets.files import names_in, pairs
from clearclip.evaluation import protocol

QUIET = {"prompts": "photo", "progress": False}


@pytest.fixture(scope="module")
def model():
    return clearclip.load("clip_tiny", device="cpu")


def told(module, *words, cwd):
    """What a command prints, run in this process, where the new entry is."""
    done = here(module, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_statistic_is_found_in_the_dataset(model, photos, monkeypatch):
    spread = analysis.Statistic(lambda x: x.std((-2, -1)), "spread", "model units")
    monkeypatch.setitem(analysis.STATISTICS, "spread", spread)
    dataset = analysis.collect(model, photos, ["entropy", "spread"], limit=2, progress=False)
    assert dataset.spread.attrs == {"long_name": "spread", "units": "model units"}
    assert dataset.spread.dims == dataset.entropy.dims and (dataset.spread > 0).all()


def test_a_recipe_is_found_by_its_name(model, tmp_path, monkeypatch):
    mine = clearclip.Recipe("mine", affinity="0.5*qq + 0.5*vv", residual=False, ffn=False)
    monkeypatch.setitem(clearclip.RECIPES, "mine", mine)
    dataset = clearclip.evaluate(model, load("scenes", count=2), ["clip", "mine"], **QUIET)
    assert dataset.recipe.values.tolist() == ["clip", "mine"]
    assert dataset.attention.sel(recipe="mine").item() == mine.affinity
    words = ("--limit", 2, "--prompts", "photo", "--device", "cpu", "--text-cache", "texts")
    assert "mine" in told("clearclip.evaluate", "--recipe", "mine", *words, cwd=tmp_path)


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
    assert protocol.windows("fruit", model).crop * 2 == protocol.windows("scenes", model).crop
    dataset = clearclip.evaluate(model, fruit, "clearclip", **QUIET)
    assert dataset.dataset.item() == "fruit" and dataset.threshold.item() == 0.3
    assert dataset["class"].values.tolist() == Fruit.class_names()

    assert "fruit" in told("clearclip.datasets", "list", cwd=tmp_path)
    assert "no faults" in told("clearclip.datasets", "check", "fruit", "data/fruit", cwd=tmp_path)


def test_a_folder_of_ones_own_is_a_data_set(model, tmp_path):
    dataset = clearclip.evaluate(
        model, parse(str(folder(tmp_path / "mine", [0, 1], "apple", "grass"))), "clip", **QUIET
    )
    assert dataset.dataset.item() == "mine" and dataset["class"].values.tolist() == ["apple", "grass"]
    assert facts("mine") == Facts("mine")
