"""The page of errors has every message of the code once, with its way out."""

import importlib.util
import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def errors():
    spec = importlib.util.spec_from_file_location("errors_page", DOCS / "errors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ways_out():
    return json.loads((DOCS / "errors.json").read_text("utf-8"))


def test_the_page_is_what_the_script_writes(errors, ways_out):
    page = errors.page(errors.collected(), ways_out)
    assert page == (DOCS / "errors.md").read_text("utf-8"), "python docs/errors.py writes the page anew"


def test_every_message_has_a_way_out_and_no_other_stands_there(errors, ways_out):
    rooms = errors.collected()
    known = [message for messages in rooms.values() for message in messages]
    assert errors.wanting(rooms, ways_out) == []
    assert ways_out.keys() <= set(known) and len(known) == len(set(known)) > 150


def test_a_message_without_a_way_out_is_noticed(errors):
    rooms = {"Pictures": ["…: it is broken", "…: it is broken, name another file."]}
    assert errors.wanting(rooms, {}) == ["…: it is broken"]
    assert errors.wanting(rooms, {"…: it is broken": "Mend it."}) == []


def test_messages_of_any_form_are_found(errors):
    import ast

    code = """
def f(x):
    raise UserError(f"{x}: no " "file. " + f"Name {x!r}{x}.")
    return BadImage("broken")
"""
    assert [*errors.messages_in(ast.parse(code))] == ["…: no file. Name ….", "broken"]
