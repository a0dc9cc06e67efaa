"""The documentation builds without a warning, and its pages say what the commands do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_site_builds_with_warnings_as_errors(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "api" / "clearclip" / "index.html").read_text()
    assert (
        "clearclip.evaluation.run.evaluate" in page and "<blockquote>" not in page
    )  # doctests are code, not quotations
    outside = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page)
    assert not outside  # nothing is fetched from elsewhere


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_their_options_exist(page):
    for module, words in re.findall(
        r"(?:python|torchrun[^\n`]*?) -m ((?:analysis|clearclip|figures)[\w.]*)([^\n`|#]*)", page.read_text("utf-8")
    ):
        file = ROOT / module.replace(".", "/")
        file = file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
        assert file.is_file(), f"{page.name}: python -m {module}"
        source = "".join(path.read_text("utf-8") for path in [file, *COMMON])
        for option in re.findall(r"--([a-z][\w-]*)", words):
            assert re.search(rf"\b{option.replace('-', '_')}: |--{option}\b", source), (
                f"{page.name}: {module} --{option}"
            )


COMMON = [
    ROOT / "analysis" / "commands.py",
    ROOT / "analysis" / "sweep.py",
    ROOT / "clearclip" / "evaluation" / "table.py",
]
