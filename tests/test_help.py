"""Every door tells its options at once, without the libraries that it needs for its work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import process

ROOT = Path(__file__).parents[1]
FILES = [
    path.relative_to(ROOT)
    for package in ("analysis", "clearclip", "figures")
    for path in (ROOT / package).rglob("*.py")
]
DOORS = sorted(
    ".".join(file.with_suffix("").parts).removesuffix(".__main__")
    for file in FILES
    if "run(main)" in (ROOT / file).read_text("utf-8")
)
OPTIONS = {
    "analysis.entropy": ("--model", "--images", "--tokens", "--figure"),
    "analysis.maps": ("--recipe", "--classes", "--first"),
    "analysis.prototypes": ("--short-side", "--layers"),
    "clearclip.completion": ("SHELL",),
    "clearclip.datasets": ("list", "check"),
    "clearclip.evaluate": ("--dataset", "--recipe", "--threshold", "--strict", "--limit", "torchrun"),
    "clearclip.segment": ("--classes", "--recipe", "--compare", "--feature", "--threshold", "--strict", "clearclip"),
    "clearclip.verify": ("--all", "--pictures", "--output"),
    "figures": ("--against", "--plan", "--offline-demo"),
}
HELP = """
import contextlib, io, json, runpy, sys
doors = sys.argv[1:]
for door in doors:
    sys.argv = [door, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as spoken:
        try:
            runpy.run_module(door, run_name="__main__", alter_sys=True)
        except SystemExit as stopped:
            code = stopped.code
    heavy = sorted({"torch", "xarray", "pandas", "matplotlib"} & set(sys.modules))
    print(json.dumps([door, code, spoken.getvalue(), heavy]))
"""


@pytest.fixture(scope="module")
def help_of(tmp_path_factory):
    """Exit code, text and imported libraries of each door, all asked in one new process."""
    done = process("-c", HELP, *DOORS, cwd=tmp_path_factory.mktemp("help"))
    assert done.returncode == 0, done.stderr
    return {door: answer for door, *answer in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("door", DOORS)
def test_help_is_quick(door, help_of):
    code, text, heavy = help_of[door]
    assert code == 0 and heavy == []
    assert f"usage: python -m {door}" in text
    for word in OPTIONS.get(door, ("--model",)):
        assert word in text


def test_all_doors_are_found():
    assert len(DOORS) >= 18 and set(OPTIONS) <= set(DOORS)


def test_help_in_a_process_of_its_own(tmp_path):
    done = process("-X", "importtime", "-m", "analysis.entropy", "--help", cwd=tmp_path)
    imported = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0 and "--model" in done.stdout
    assert "tyro" in imported and not {"torch", "xarray", "pandas", "matplotlib"} & imported
    assert not list(tmp_path.iterdir())


def test_a_reader_that_has_gone_is_no_failure(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        command = [sys.executable, "-m", "analysis.entropy", "--help"]
        done = subprocess.run(command, cwd=tmp_path, stdout=gone, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")
