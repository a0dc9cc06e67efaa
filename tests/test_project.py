"""What the repository promises about itself."""

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


CHECKERS = {
    "ruff check": (sys.executable, "-m", "ruff", "check", "."),
    "ruff format": (sys.executable, "-m", "ruff", "format", "--check", "."),
    "mypy": (sys.executable, "-m", "mypy"),
    "import-linter": (str(Path(sys.executable).with_name("lint-imports")), "--no-cache"),
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_checkers(checker):
    done = subprocess.run(CHECKERS[checker], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_editors_and_mypy_see_the_types():
    for package in ("analysis", "clearclip", "figures"):
        assert (ROOT / package / "py.typed").is_file()


def test_readme_holds_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "python -m pip install -e . && python -m analysis.entropy" in readme
    assert 'python -m pip install -e ".[test]" && python -m pytest' in readme
