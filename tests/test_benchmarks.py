"""Every script in benchmarks/ runs and prints its ratios; how large they are is not a test's business, unless it cannot be."""

import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = {
    "evaluate": ("--model", "clip_tiny", "--photos", "1", "--repeats", "1", "--classes", "3"),
    "memory": ("--images", "1", "2"),
    "probe": ("--model", "dino_tiny", "--batch-sizes", "1", "--repeats", "1", "--only-ours", "--no-bf16"),
    "scale": ("--pictures", "40", "--batch-size", "8"),
    "recipes": (
        *("--model", "clip_tiny", "--proxy", "dino_tiny", "--image-size", "64", "--batch-size", "1", "--repeats", "1"),
        *("--recipe", "clearclip", "proxyclip", "--no-memory"),
    ),
}


def test_every_script_is_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SMALL)


def printed(name, monkeypatch, capsys, *words):
    """What a small run prints."""
    monkeypatch.setattr("sys.argv", [name, *SMALL[name], *words])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(SMALL.keys() - {"recipes"}))
def test_a_small_run(name, monkeypatch, capsys):
    text = printed(name, monkeypatch, capsys)
    assert any(character.isdigit() for character in text), text
    assert "nan" not in text.lower()
    for share in re.findall(r"([-\d.]+) ?% (?:of it )?outside", text):
        assert 0 < float(share) < 100, text  # the model's part was measured, and so was what is beside it


def test_the_table_of_recipes(monkeypatch, capsys):
    text = printed("recipes", monkeypatch, capsys)
    assert "random" in text and "nan" not in text.lower() and "left out" not in text
    rows = {line[:20].strip(): line[20:].split() for line in text.partition("recipe  ")[2].splitlines()[1:]}
    assert list(rows) == ["clearclip", "proxyclip", "all in one pass"]
    for name, (per_second, cost, without_guide, outside, _) in rows.items():
        assert float(per_second) > 0, text
        assert 0 < float(outside.removesuffix("%")) < 100, text
        assert float(without_guide) < float(cost) or name == "clearclip", text  # the second model takes time of its own
    assert rows["clearclip"][1:3] == ["1.00", "1.00"]


def test_the_peak_of_one_recipe(monkeypatch, capsys):
    assert float(printed("recipes", monkeypatch, capsys, "--measure")) > 50
