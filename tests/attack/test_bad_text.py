"""Class lists, prompts and names in any encoding, with any content: read rightly, or refused with a message."""

from __future__ import annotations

import os

import pytest
from forked import clean, command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from material import labelled, pictures

from clearclip.errors import UserError
from clearclip.segmentation.text import class_names

SEGMENT = ("clearclip.segment", "pictures", "--model", "clip_tiny", "--text-cache", "texts", "--output", "out")
NAMES = [
    "",
    " ",
    ",",
    ",,,",
    "|",
    "sky,",
    "sky,,grass",
    "sky|",
    "sky|sky",
    "sky,sky",
    "sky, sky ",
    "sky|cloud, cloud",
    "background",
    "background, background",
    "$\\frac$, grass",
    "cost $5, price $6",
    "\\alpha_{",
    "<script>alert(1)</script>",
    "../../owned, grass",
    "/etc/passwd",
    "a\nb, c",
    "a\tb",
    "\x07bell, grass",
    "\ufeffsky, grass",
    "سماء, 天空, עשב",
    "🐎, 🌱",
    "e\u0301, é",
    "\u202egnp.exe, sky",
    "x" * 5000,
    ", ".join(f"class {i}" for i in range(300)),
    "{}, {name}",
    "%s, %d",
    "-1, --help",
    "nan, None",
    os.fsdecode(b"sk\xff, grass"),
]
ENCODED = {
    "UTF-8": (b"sky\ngrass\n", True),
    "UTF-8 with BOM": ("sky\ngrass\n".encode("utf-8-sig"), True),
    "UTF-16": ("sky\ngrass\n".encode("utf-16"), None),
    "UTF-32": ("sky\ngrass\n".encode("utf-32"), None),
    "Latin-1": ("ciel\nprés\n".encode("latin-1"), False),
    "Windows lines": (b"sky\r\ngrass\r\n", True),
    "Macintosh lines": (b"sky\rgrass\r", None),
    "NULs": (b"sky\0grass\0", False),
    "random bytes": (bytes(range(256)) * 4, False),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), False),
    "no line end": (b"sky\ngrass", True),
}
PROMPTS = {
    "a template": (b"a photo of a {}.", True),
    "UTF-8 with BOM": ("\ufeffa photo of a {}.".encode(), True),
    "no place": (b"a photo", False),
    "empty": (b"", False),
    "blank": (b"\n\n", False),
    "another place": (b"a photo of a {name}.", False),
    "a number": (b"a photo of a {0}.", None),
    "an attribute": (b"{0.__class__.__mro__}", False),
    "open": (b"a {", False),
    "Latin-1": ("une photo prés de {}".encode("latin-1"), False),
    "NULs": (b"a photo of a {}\0", False),
    "random bytes": (bytes(range(256)), False),
    "very long": (b"a " * 5000 + b"{}", None),
}
FILES = ["$\\frac$", "cost $5, price $6", "<b>&amp;", "a'b\"c", "новый", "天空", "x" * 200, "a\nb", "-rf", "%s", "a b"]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: ascii(names)[:30])
def test_class_names(names, cwd):
    pictures(cwd / "pictures", 1)
    clean(command(*SEGMENT, f"--classes={names}", "--recipe", "clip", "clearclip", cwd=cwd))
    assert not list(cwd.parent.rglob("owned*"))


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("door", ["clearclip.evaluate", "analysis.maps"])
def test_class_lists(door, encoding, cwd):
    content, readable = ENCODED[encoding]
    (labelled(cwd / "data", 2) / "classes.txt").write_bytes(content)
    words = ("--model", "clip_tiny", "--dataset", "data", "--text-cache", "texts", "--limit", "1", "--output", "out.nc")
    ended = command(door, *words, cwd=cwd)
    clean(ended, (0, 2) if readable is None else (0,) if readable else (2,))
    assert "ufeff" not in ascii(ended.out)


@pytest.mark.parametrize("prompts", PROMPTS)
def test_prompts(prompts, cwd):
    content, readable = PROMPTS[prompts]
    pictures(cwd / "pictures", 1)
    (cwd / "prompts.txt").write_bytes(content)
    ended = command(*SEGMENT, "--classes", "sky, grass", "--prompts", "prompts.txt", cwd=cwd)
    clean(ended, (0, 2) if readable is None else (0,) if readable else (2,))


@pytest.mark.parametrize("name", FILES, ids=ascii)
@pytest.mark.parametrize("door", ["clearclip.segment", "analysis.similarity", "analysis.entropy"])
def test_names_of_files_and_folders(door, name, cwd):
    folder = pictures(cwd / "pictures" / name, 1)
    (folder / "good_0.png").rename(folder / f"{name}.png")
    words = {"clearclip.segment": (*SEGMENT[1:], "--classes", "sky, grass")}.get(
        door, ("--model", "clip_tiny", "--images", "pictures", "--layers", "1", "--output", f"./{name}.nc")
    )
    clean(command(door, *words, cwd=cwd), (0,))


def test_any_text_as_class_names(whole, record_property):
    """Through the one function that reads them."""
    count = 300 if whole else 50

    @settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck], database=None)
    @given(st.text())
    def attack(text):
        try:
            names = class_names(text)
        except UserError as error:
            assert str(error)
        else:
            assert names

    attack()
    record_property("cases", count)
