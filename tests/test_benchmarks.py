"""Every script in benchmarks/ runs and prints its ratios; how large they are is not a test's business."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = {
    "evaluate": ("--model", "clip_tiny", "--photos", "1", "--repeats", "1", "--classes", "3"),
    "memory": ("--images", "1", "2"),
    "probe": ("--model", "dino_tiny", "--batch-sizes", "1", "--repeats", "1", "--only-ours", "--no-bf16"),
    "recipes": ("--model", "clip_tiny", "--image-size", "64", "--batch-size", "1", "--repeats", "1"),
}


def test_every_script_is_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_run(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, *SMALL[name]])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    text = capsys.readouterr().out
    assert any(character.isdigit() for character in text), text
    assert "nan" not in text.lower() and "100.0 % of it outside" not in text
