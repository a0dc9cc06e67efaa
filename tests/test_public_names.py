"""What `dir()` and tab completion show, and that nothing heavy is imported for it."""

import importlib
import inspect
import subprocess
import sys

import pytest

import analysis
import clearclip

NAMES = {
    "clearclip": [
        "Backbone", "DenseEncoder", "RECIPES", "Recipe", "Segmenter", "UserError", "__version__", "datasets", "evaluate",
        "load", "table", "wrap",
    ],
    "clearclip.datasets": [
        "BENCHMARKS", "Benchmark", "DRAWN", "Facts", "FolderDataset", "LabelledPictures", "Sample", "as_dataset", "facts",
        "is_dataset", "known", "load", "parse",
    ],
    "analysis": [
        "Probe", "STATISTICS", "Statistic", "TokenShards", "attention_maps", "attribute", "collect", "collect_shards",
        "export_tokens", "open_parts", "plots", "read_rows", "table", "worth",
    ],
}  # fmt: skip


@pytest.mark.parametrize("package", NAMES)
def test_dir_shows_the_public_names_and_each_can_be_used(package):
    module = importlib.import_module(package)
    assert sorted(dir(module)) == sorted(module.__all__) == sorted(NAMES[package])
    for name in NAMES[package]:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        module.nonsense  # noqa: B018


def fresh(code):
    """What a new Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_importing_the_packages_imports_nothing_heavy():
    heavy = "sorted({'torch', 'numpy', 'matplotlib', 'xarray', 'pandas'} & set(sys.modules))"
    code = (
        f"import sys, analysis, clearclip, clearclip.datasets, figures; dir(clearclip); dir(analysis); print({heavy})"
    )
    assert fresh(code) == ["[]"]


def test_evaluate_is_a_plain_function_whatever_is_imported_first():
    assert inspect.isfunction(clearclip.evaluate) and "threshold" in inspect.signature(clearclip.evaluate).parameters
    code = (
        "import clearclip\n"
        "for _ in range(2):\n"
        "    try: import clearclip.evaluate\n"
        "    except ImportError as error: print(error)\n"
        "    print(type(clearclip.evaluate).__name__)\n"
    )
    refused = "clearclip.evaluate is a function, and a command: python -m clearclip.evaluate"
    assert fresh(code) == [refused, "function", refused, "function"]


def test_the_version_is_that_of_the_installed_package():
    assert clearclip.__version__.count(".") == 2
    assert analysis.Statistic.__module__ == "analysis.probes.statistics"
