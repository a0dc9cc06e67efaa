"""Every script in benchmarks/ runs and gives its rows; how large they are is not a test's business, unless it cannot be."""

import json
import math
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import __main__ as everything
from benchmarks.common import Row, read, row, rows_of, table, turns, worse, write

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = {
    "attribution": "--model clip_tiny --texts 3 --repeats 1",
    "compiled": "--model dino_tiny --batch-sizes 1 --repeats 1 --backend eager",
    "evaluate": "--model clip_tiny --photos 1 --repeats 1 --classes 3 --scenes 3",
    "explore": "--beside dino_tiny --image-size 64 --repeats 1",
    "memory": "--images 1 2",
    "probe": "--model dino_tiny --batch-sizes 1 --repeats 1 --only-ours --no-bf16",
    "scale": "--pictures 40 --batch-size 8",
    "recipes": (
        "--model clip_tiny --proxy dino_tiny --image-size 64 --batch-size 1 --repeats 1 --no-memory "
        "--recipe clearclip proxyclip"
    ),
    "throughput": "--model clip_tiny --recipe clip --photos 1 --repeats 1 --classes 3",
}


def test_every_script_is_here():
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__main__", "common"} == set(SMALL)
    names = {module.NAME: module.__name__ for module in everything.SHORT}
    assert names == {name: f"benchmarks.{name}" for name in SMALL}


@pytest.fixture(scope="module", params=sorted(SMALL))
def rows(request):
    return rows_of(request.param, SMALL[request.param])


def test_a_small_run(rows):
    assert len({each.key for each in rows}) == len(rows) > 1
    for each in rows:
        assert math.isfinite(each.median) and each.low <= each.median <= each.high, each
        assert each.median > 0 or "waits" in each.what, each
        if "%" in each.unit:  # a part of the whole was measured, and so was what is beside it
            assert each.median < 100, each
    if rows[0].script == "recipes":
        about = {"clearclip, outside the encoder", "proxyclip", "all in one pass", "features of 30 recipes"}
        assert about <= {each.what for each in rows}


def test_a_script_prints_one_table(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["probe", *SMALL["probe"].split()])
    import_module("benchmarks.probe").main()
    text = capsys.readouterr().out
    assert "random weights" in text and text.count("|---") == 5 and text.count("\n| probe |") == 4


def test_the_peak_of_one_recipe(monkeypatch, capsys):
    words = ["--model", "clip_tiny", "--proxy", "dino_tiny", "--recipe", "clearclip", "--measure"]
    monkeypatch.setattr("sys.argv", ["recipes", *words])
    import_module("benchmarks.recipes").main()
    assert float(capsys.readouterr().out) > 50


def test_all_of_them_beside_the_stored_table(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(everything, "STORED", tmp_path / "benchmarks.json")
    monkeypatch.setattr(everything, "SHORT", {module: SMALL[module.NAME] for module in everything.SHORT})
    found = everything.measured(["probe"], {"probe": SMALL["probe"]})
    ratio = next(row for row in found if row.unit == "×")
    write(everything.STORED, [Row(*ratio.key, *[ratio.median / 100] * 3)])
    monkeypatch.setattr("sys.argv", ["benchmarks", "probe"])
    assert everything.main() == 1
    assert capsys.readouterr().out.count("**worse**") == 1
    content = json.loads(everything.STORED.read_text())
    assert {"machine", "versions", "date"} < set(content) and content["versions"].startswith("Python")
    assert read(everything.STORED)[0].key == ratio.key and read(tmp_path / "none.json") == []


def test_a_part_of_the_table_is_stored_beside_the_rest_of_the_same_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(everything, "STORED", tmp_path / "benchmarks.json")
    monkeypatch.setattr("sys.argv", ["benchmarks", "memory", "--write"])
    old = [row(name, "a", "b", "×", [1.0]) for name in ("probe", "memory", "scale")]
    monkeypatch.setattr(everything, "measured", lambda names, words: [row("memory", "a", "b", "×", [2.0])])
    write(everything.STORED, old)
    assert everything.main() == 0
    assert [(each.script, each.median) for each in read(everything.STORED)] == [
        ("probe", 1),
        ("memory", 2),
        ("scale", 1),
    ]
    content = json.loads(everything.STORED.read_text()) | {"machine": "another"}
    everything.STORED.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        everything.main()


def test_the_stored_table_is_the_one_in_the_documentation():
    stored, page = read(everything.STORED), everything.STORED.with_suffix(".md")
    if not stored:
        pytest.skip("no table is stored yet")
    assert table(stored) in page.read_text()


def test_turns_are_taken_and_the_first_does_not_count():
    order = []
    taken = turns({name: (lambda name=name: order.append(name) or float(len(order))) for name in "ab"}, 2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert taken.wall == {"a": [3.0, 6.0], "b": [4.0, 5.0]} and taken.ratios("a", "b") == [0.75, 1.2]


def test_only_ratios_and_shares_can_be_worse():
    for unit, expected in (("×", True), ("%", True), ("images/s", False)):
        before, after = row("a", "b", "c", unit, [1.0]), row("a", "b", "c", unit, [1.2])
        assert worse(after, before) is expected
        assert not worse(before, after) and not worse(row("a", "b", "c", unit, [1.05]), before)
