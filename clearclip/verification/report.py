"""What was verified, as text, JSON and Markdown: something to attach to an issue or a paper."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clearclip.runs.results import provenance
from clearclip.verification.run import Row

HEADER = ("model", "verdict", "what", "expected", "measured", "tolerance", "source")


def summary(rows: Sequence[Row]) -> str:
    """How many rows have which verdict.

    >>> summary([Row("a", "agrees", "x"), Row("a", "agrees", "y"), Row("a", "skipped", "z")])
    '2 agree, 1 skipped'
    """
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{count} {verdict.replace('agrees', 'agree')}" for verdict, count in counts.items())


def text(rows: Sequence[Row]) -> str:
    """All rows for a terminal, each in a few lines."""
    blocks = []
    for row in rows:
        model, verdict, what, expected, measured, tolerance, source = cells(row)
        lines = [f"{model}: {verdict}: {what}"]
        if row.measured:
            lines += [f"  expected {expected}", f"  measured {measured}", f"  tolerance {tolerance}; {source}"]
        elif row.why:
            lines += [f"  {row.why}"]
        blocks.append("\n".join(lines))
    return "\n".join([*blocks, summary(rows)])


def cells(row: Row) -> tuple[str, ...]:
    """A row as `HEADER` names its cells.

    >>> cells(Row("clip_vitb32", "agrees", "cosine", (0.999,), (0.99987,), 0.0, "at least", "somebody"))[3:6]
    ('at least 0.999', '0.99987', '0')
    """
    rule = "" if row.rule == "within" else f"{row.rule} "
    expected = rule + _numbers(row.expected) if row.expected else ""
    measured = _numbers(row.measured) if row.measured else row.why
    return row.model, row.verdict, row.what, expected, measured, f"{row.tolerance:g}", row.source


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.7g}" for value in values)


def write(rows: Sequence[Row], models: Mapping[str, Mapping[str, Any]], path: Path) -> list[Path]:
    """Write the report.

    Args:
        rows: what was found.
        models: name → what is known about the loaded model, such as the SHA-256 of its weights.
        path: the .json file; a .md file of the same name goes beside it.

    Returns:
        Both files.
    """
    about = provenance() | {
        "clearclip-analysis": version("clearclip-analysis"),
        "python": platform.python_version(),
        "machine": platform.platform(),
    }
    page = path.with_suffix(".md")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**about, "models": models, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n", "utf-8")
    facts = [f"- {name}: {value}" for name, value in about.items()]
    facts += [
        f"- {name}: {known['architecture']}, weights {known['weights']}, SHA-256 {known['weights_sha256']}"
        for name, known in models.items()
    ]
    table = [
        HEADER,
        tuple("---" for _ in HEADER),
        *(tuple(cell.replace("|", "\\|") for cell in cells(row)) for row in rows),
    ]
    lines = [
        "# Verification of models",
        "",
        *facts,
        "",
        *(f"| {' | '.join(line)} |" for line in table),
        "",
        summary(rows),
    ]
    page.write_text("\n".join(lines) + "\n", "utf-8")
    return [path, page]
