"""The notebooks run on the shipped models, are those of their scripts, and print what they printed when they were written."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("refresh", ROOT / "notebooks" / "refresh.py")
refresh = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(refresh)

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
LAST_DIGITS = (
    3  # another processor may round differently: decimals may differ by so much of their last digit, or by 2 %
)
LARGEST = 600_000  # bytes of a notebook with its pictures
scripts = pytest.mark.parametrize("script", refresh.SCRIPTS, ids=lambda script: script.stem)


def committed(script):
    file = script.with_suffix(".ipynb")
    assert file.is_file(), f"{file.name} is missing; {how(script)}"
    return nbformat.read(file, 4)


def how(script):
    return f"write it with: python notebooks/refresh.py {script.name[0]}"


def printed(cell):
    """What a code cell printed and showed as text, pictures left out."""
    texts = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            texts.append(output.text)
        elif "image/png" not in output.get("data", {}):
            texts.append(output.data["text/plain"])
    return "".join(texts)


def differences(old, new):
    """Where two printed texts differ: other words, other whole numbers, or decimals beyond the tolerance."""
    words = [re.sub(r"\s+", " ", NUMBER.sub("#", text)).strip() for text in (old, new)]
    if words[0] != words[1]:
        return [f"the text was\n{old}\nand is now\n{new}"]
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return [f"{a} is now {b}" for a, b in pairs if not alike(a, b)]


def alike(old, new):
    decimals = len(old.partition(".")[2])
    allowed = max(LAST_DIGITS * 10.0**-decimals, 0.02 * abs(float(old))) if decimals else 0.0
    return abs(float(old) - float(new)) <= allowed + 1e-9


def test_there_are_six_and_each_has_its_script():
    assert [script.name[0] for script in refresh.SCRIPTS] == list("123456")
    assert {file.stem for file in refresh.FOLDER.glob("*.ipynb")} == {script.stem for script in refresh.SCRIPTS}


@scripts
def test_a_notebook_has_the_cells_of_its_script(script):
    pair = [
        [(cell.cell_type, cell.source) for cell in one.cells]
        for one in (committed(script), refresh.from_script(script))
    ]
    assert pair[0] == pair[1], f"{script.name} has changed since; {how(script)}"


@scripts
def test_a_notebook_is_committed_whole(script):
    notebook, file = committed(script), script.with_suffix(".ipynb")
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "not every cell was executed, in its order"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert file.stat().st_size < LARGEST, (
        f"{file.name} has {file.stat().st_size:,} bytes; draw smaller or fewer pictures"
    )


@pytest.mark.parametrize("file", sorted(refresh.FOLDER.glob("[0-9]_*")), ids=lambda file: file.name)
def test_a_notebook_tells_nothing_of_the_machine_it_ran_on(file):
    text = file.read_text("utf-8")
    if file.suffix == ".ipynb":
        notebook = nbformat.read(file, 4)
        text = "\n".join(cell.source + printed(cell) for cell in notebook.cells)
        assert set(notebook.metadata) == set(refresh.PAIR) and not any(cell.metadata for cell in notebook.cells)
    for pattern in (
        r"(?:^|[\s'\"(])/(?:home|root|Users|tmp|work|opt|usr|var|mnt)\b",
        r"[A-Z]:\\",
        r"\bat 0x[0-9a-f]+",
        "site-packages",
    ):
        assert not re.search(pattern, text), pattern


@scripts
def test_a_notebook_prints_what_it_printed(script):
    old = committed(script)
    new = refresh.executed(refresh.from_script(script))
    found = [
        f"cell {number} ({before.source.splitlines()[0]!r} …): {one}"
        for number, (before, after) in enumerate(zip(old.cells, new.cells, strict=True))
        for one in differences(printed(before), printed(after))
    ]
    assert not found, "\n".join([f"{script.name} gives other results; if they are right, {how(script)}", *found])


def test_differences_are_found():
    assert differences("mIoU 17.1\n 24 pictures", "mIoU  17.3\n24 pictures") == []
    assert differences("mIoU 17.1", "mIoU 18.1") == ["17.1 is now 18.1"]
    assert differences("24 pictures", "25 pictures") == ["24 is now 25"]
    assert differences("a -0.0", "a 0.0") == []
    assert differences("NaN", "1.0") and differences("clip 1.0", "sclip 1.0")


def test_a_notebook_that_fails_names_its_cell():
    from nbformat.v4 import new_code_cell, new_notebook

    with pytest.raises(RuntimeError, match=r"(?s)cell 1: .*no such thing"):
        refresh.executed(
            new_notebook(cells=[new_code_cell("1 + 1"), new_code_cell("raise ValueError('no such thing')")])
        )
