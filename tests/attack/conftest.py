"""A slice of the attacks in every test run; all of them with `python -m pytest tests/attack --attack whole`."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SLICE = 5  # attacks of each family in every test run


def pytest_addoption(parser):
    parser.addoption("--attack", choices=["slice", "whole"], default="slice", help="how many of the attacks are tried")


def pytest_collection_modifyitems(config, items):
    """Without --attack whole, keep a few of each family, evenly spread; those against security stay, all of them."""
    if config.getoption("--attack", "slice") == "whole":
        return
    families = defaultdict(list)
    for item in items:
        if item.path.parent == HERE and item.path.stem != "test_security":
            families[item.path].append(item)
    left_out = set()
    for family in families.values():
        step = max(1, -(-len(family) // SLICE))
        left_out |= set(family) - set(family[::step])
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter):
    """How many attacks of each family were tried, how many ended cleanly, how many did not."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if "tests/attack/" in getattr(report, "nodeid", ""):
                family = Path(report.nodeid.partition("::")[0]).stem.removeprefix("test_").replace("_", " ")
                properties = dict(report.user_properties)
                counts[family][outcome] += properties.get("cases", 1)
                counts[family]["kills"] += properties.get("kills", 0)
    if not counts:
        return
    terminalreporter.section("attacks")
    total = sum(counts.values(), Counter())
    terminalreporter.line(
        f"{'family':20} {'tried':>6} {'clean':>6} {'failed':>6} {'not possible here':>18} {'kills':>6}"
    )
    for family, count in [*sorted(counts.items()), ("all", total)]:
        failed = count["failed"] + count["error"]
        numbers = (
            f"{count['passed'] + failed:6} {count['passed']:6} {failed:6} {count['skipped']:18} {count['kills']:6}"
        )
        terminalreporter.line(f"{family:20} {numbers}")


@pytest.fixture
def whole(request):
    """Whether all attacks are tried."""
    return request.config.getoption("--attack", "slice") == "whole"


@pytest.fixture
def cwd(tmp_path):
    """An empty folder for one command."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder
