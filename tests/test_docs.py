"""The documentation builds without a warning, its Python runs, and its command lines are those that the commands take."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from layouts import lines, photo, voc, write
from safetensors.torch import save_file

import clearclip
from clearclip import cli
from clearclip.doors import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]_*.py"))
DOORS = [
    path
    for package in ("analysis", "clearclip", "figures")
    for path in sorted((ROOT / package).rglob("*.py"))
    if "zoo" not in path.parts and "cli.parse(" in path.read_text("utf-8")
]
# A reader has the hub's models; here shipped ones and ones with random weights stand in for them. The files that
# the pages name are made by `reader`.
STAND_INS = {
    '"clip_vitb16"': '"clip_tiny"',
    '"dinov2_vits14"': '"timm:vit_tiny_patch16_224"',
    "=dinov2_vits14:": "=timm:test_vit:",
    'load("dino_vits16")': 'load("dino_vits16", random=True)',
    '"vit_small_patch14_dinov2.lvd142m", pretrained=True': '"test_vit"',
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


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


@each_page
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@each_page
def test_names_of_modules_are_right(page):
    text = re.sub(r"python -m \S+", "", page.read_text("utf-8"))
    for name in re.findall(r"`((?:analysis|clearclip|figures)/[\w/]+\.py)`", text):
        assert (ROOT / name).is_file(), f"{page.name}: {name}"


@each_page
def test_names_of_commands_are_right(page):
    assert set(re.findall(r"(?:^|`)clearclip (\w+)", page.read_text("utf-8"), re.MULTILINE)) <= set(COMMANDS)


def python_of(page):
    """The blocks of Python on a page, in their order."""
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The folder of a reader who has the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    photo(Path("photo.jpg"), 64, 48)
    photo(Path("my/photos/horse.jpg"), 64, 48)
    photo(Path("photos/photo.png"), 64, 48)
    voc(Path("data/voc"), [0, 1, 2, 255])
    photo(Path("my_data/images/a.png"), 64, 48)
    write(Path("my_data/labels/a.png"), np.arange(64 * 48).reshape(48, 64) % 2)
    lines(Path("my_data/classes.txt"), "sky", "grass")
    save_file(random_weights(STAND_INS['"dinov2_vits14"'].strip('"')), "my_dinov2.safetensors")
    for file in ("before.safetensors", "after.safetensors"):
        save_file(random_weights("timm:test_vit"), file)


def random_weights(name):
    return clearclip.load(name, random=True, device="cpu").model.state_dict()


@pytest.mark.filterwarnings("ignore:clip_tiny was never trained on some words")
@pytest.mark.parametrize("page", list(filter(python_of, PAGES)), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_runs(page, reader):
    names = {"__name__": "page"}
    for block in python_of(page):
        for model, stand_in in STAND_INS.items():
            block = block.replace(model, stand_in)
        exec(compile(block, page.name, "exec"), names)


class Parsed(BaseException):  # what a command itself does not catch
    """The command line was understood."""


def commands(text):
    """The words of every command line in a text: module and arguments."""
    text = text.replace("\\\n", " ")
    lines = re.findall(r"^[ >]*((?:\w+=\S+ )*(?:python|torchrun|srun|clearclip) .*)", text, re.MULTILINE)
    spans = re.findall(r"`((?:python|torchrun|clearclip) [^`]*)`", text)
    for line in [*lines, *spans]:
        for command in re.split(r" (?:&&|>>?) ", line):
            words = shlex.split(command, comments=True)
            if words[0] == "clearclip" and words[2:] and words[1] in COMMANDS:  # two words are a command's name
                yield COMMANDS[words[1]].removesuffix(".__main__"), spelled_out(words[2:])
            elif "-m" in words[:-1]:
                module, *arguments = words[words.index("-m") + 1 :]
                if re.fullmatch(r"(analysis|clearclip|figures)[\w.]*", module) and "zoo" not in module:
                    yield module, spelled_out(arguments)


def spelled_out(words):
    """Words without those that a reader is to add; one right behind an option stands for its value."""
    return [word for before, word in pairwise(["", *words]) if "…" not in word or before.startswith("--")]


@pytest.mark.parametrize("file", [*PAGES, *NOTEBOOKS, *DOORS], ids=lambda file: file.relative_to(ROOT).as_posix())
def test_commands_take_their_options(file, monkeypatch):
    """Every door reads its options and stops there."""
    parse = cli.parse

    def stop(kind, question):
        parse(kind, question)
        raise Parsed

    text = (
        re.sub(r"^# ?", "", file.read_text("utf-8"), flags=re.MULTILINE)
        if file in NOTEBOOKS
        else file.read_text("utf-8")
    )
    monkeypatch.setattr(cli, "parse", stop)
    for module, arguments in commands(text):
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises((Parsed, SystemExit)) as stopped:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        assert stopped.type is Parsed or not stopped.value.code  # --help answers and stops with 0
