"""What the repository promises about itself."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower()


def test_environment_yml_has_the_packages_of_pyproject_pinned_within_its_ranges():
    from packaging.requirements import Requirement

    ranges = [Requirement(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pins = dict(pin.split("==") for pin in listed[-1]["pip"] if "==" in pin)
    assert {r.name.lower() for r in ranges} == {name.lower() for name in pins}
    for requirement in ranges:
        assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert "python=3.11" in listed and PROJECT["requires-python"] == ">=3.11"


@pytest.mark.parametrize("package, forbidden", [("clearclip", {"analysis", "figures"}), ("analysis", {"figures"})])
def test_imports_go_one_way(package, forbidden):
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            assert not {name.split(".")[0] for name in names} & forbidden, f"{path}: {names}"


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["mypy"]], ids=" ".join)
def test_checkers(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_holds_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "python -m pip install -e . && python -m analysis.entropy" in readme
    assert 'python -m pip install -e ".[test]" && python -m pytest' in readme
