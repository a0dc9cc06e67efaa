"""The console script `clearclip`, started as pip's script starts it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from clearclip.doors import COMMANDS, question

ROOT = Path(__file__).parents[2]
DOOR = re.compile(r"^    (cli\.)?run\(main\)$", re.MULTILINE)


def clearclip(*words, cwd):
    """The script lies in a folder of its own, so that the current folder is not searched for modules."""
    script = cwd / "bin" / "clearclip"
    script.parent.mkdir(exist_ok=True)
    script.write_text("import sys\nfrom clearclip.__main__ import main\nsys.exit(main())\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "importtime", script, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env, timeout=300)


def test_the_list_of_commands_in_a_folder_that_has_an_analysis_of_its_own(tmp_path):
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").write_text("raise RuntimeError('the wrong analysis')")
    done = clearclip("--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS) and question("analysis.entropy") in done.stdout
    imported = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "numpy", "xarray", "matplotlib"} & imported
    done = clearclip("entropy", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "usage: clearclip entropy" in done.stdout
    assert "None" not in done.stdout and "(default: )" not in done.stdout


def test_every_door_is_a_command():
    files = [file for package in ("analysis", "clearclip", "figures") for file in (ROOT / package).rglob("*.py")]
    doors = [file.relative_to(ROOT) for file in files if DOOR.search(file.read_text("utf-8"))]
    assert sorted(".".join(door.with_suffix("").parts) for door in doors) == sorted(COMMANDS.values())


def test_every_door_of_the_contract_is_a_command():
    """The layers above `commands` are the doors of analysis."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["name"] == "The rooms of analysis"]
    doors = " | ".join(layers[1 : layers.index("commands")]).split(" | ")  # the first layer is python -m analysis
    assert layers[0] == "__main__" and {f"analysis.{door}" for door in doors} <= set(COMMANDS.values())


def test_an_unknown_command(tmp_path):
    done = clearclip("entrpy", cwd=tmp_path)
    assert done.returncode == 2 and "error: there is no command 'entrpy'" in done.stderr and "entropy" in done.stderr


@pytest.mark.parametrize("package", ["clearclip", "analysis"])
def test_python_m_gives_the_same_list(package, tmp_path):
    done = subprocess.run([sys.executable, "-m", package], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "entropy" in done.stdout


def test_completion_knows_commands_and_their_options(tmp_path):
    done = clearclip("completion", "bash", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "prototypes" in done.stdout and "--short-side" in done.stdout and "complete -F" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash to complete in")
@pytest.mark.parametrize(
    ("words", "proposals"),
    [
        ("clearclip ent", ["entropy"]),
        ("clearclip entropy --mo", ["--model"]),
        ("clearclip evaluate --names ''", ["clearclip", "standard"]),
    ],
)
def test_bash_completes(words, proposals, tmp_path):
    script = clearclip("completion", "bash", cwd=tmp_path).stdout
    ask = f"""
    COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="{words}"; COMP_POINT=${{#COMP_LINE}}
    _tyro_clearclip; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash"], input=script + ask, capture_output=True, text=True)
    assert (done.stdout.splitlines(), done.stderr) == (proposals, "")
