"""The page of methods has every recipe, as the code has it."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_what_the_script_writes():
    spec = importlib.util.spec_from_file_location("methods_page", ROOT / "docs/methods.py")
    methods = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(methods)
    assert set(methods.SOURCES) >= set(methods.RECIPES), "a recipe without a source: add it in docs/methods.py"
    assert methods.page() == methods.PAGE.read_text("utf-8"), "write it with: python docs/methods.py"
