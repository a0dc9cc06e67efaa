"""Tables as CSV, Markdown and LaTeX, from one DataFrame: rows of measured and published mIoU and their difference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.sweeps.table import DIFFERENCE
from clearclip import outputs


def write(table: pd.DataFrame, stem: Path, caption: str) -> list[Path]:
    """Write stem.csv, stem.md and stem.tex; returns the three paths.

    The index holds what a row is about, the columns numbers; `table.attrs["note"]` stands below the table.
    """
    contents = {
        ".csv": table.round(4).to_csv(),
        ".md": markdown(table, caption),
        ".tex": latex(table, caption, label=stem.name),
    }
    paths = {stem.with_name(f"{stem.name}{suffix}"): content for suffix, content in contents.items()}
    for path, content in paths.items():
        outputs.write(path, content)
    return list(paths)


def cells(table: pd.DataFrame) -> list[list[str]]:
    """The table as text, its header first: numbers with one digit, differences with their sign, nothing for NaN.

    >>> import pandas as pd
    >>> index = pd.MultiIndex.from_tuples([("clip", "measured"), ("clip", "difference")], names=["model", "numbers"])
    >>> cells(pd.DataFrame({"VOC20": [41.84, 0.04]}, index))[1:]
    [['clip', 'measured', '41.8'], ['clip', 'difference', '+0.0']]
    """
    rows = [[*map(str, table.index.names), *map(_head, table.columns)]]
    for index, values in zip(table.index, table.to_numpy().tolist(), strict=True):
        about = list(index) if isinstance(index, tuple) else [index]
        sign = "+" if DIFFERENCE in about else ""
        numbers = ["" if value != value else f"{value:{sign}.1f}".replace("-", "−") for value in values]
        rows.append([*map(str, about), *numbers])
    return rows


def _head(column: Any) -> str:
    return str(column).replace("\n", " ")


def markdown(table: pd.DataFrame, caption: str) -> str:
    """The table for a Markdown page, its caption above, its note below."""
    head, *rows = cells(table)
    rules = ["---"] * table.index.nlevels + ["---:"] * len(table.columns)
    lines = ["| " + " | ".join(row) + " |" for row in (head, rules, *rows)]
    note = table.attrs.get("note", "")
    return "\n\n".join(part for part in (caption.strip(), "\n".join(lines), note) if part) + "\n"


def latex(table: pd.DataFrame, caption: str, label: str) -> str:
    """The table for LaTeX with booktabs; a rule parts the values of the first column, and what repeats is left blank."""
    head, *rows = cells(table)
    levels = table.index.nlevels
    lines: list[str] = []
    before = [""] * levels
    for row in rows:
        new = next((i for i in range(levels) if row[i] != before[i]), levels)
        if lines and new == 0:
            lines.append(r"\midrule")
        texts = [*("" if i < new else text for i, text in enumerate(row[:levels])), *row[levels:]]
        lines.append(" & ".join(map(_escape, texts)) + r" \\")
        before = row[:levels]
    text = re.sub(r"^Table \d+\. ", "", " ".join(_escape(caption).split()))  # LaTeX counts itself
    note = table.attrs.get("note", "")
    return "\n".join([
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        rf"\caption{{{text}{' ' + _escape(note) if note else ''}}}",
        rf"\label{{tab:{label}}}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{{'l' * levels}{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(map(_escape, head)) + r" \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ])  # fmt: skip


_SIGNS = {
    "−": "$-$",
    "±": r"$\pm$",
    "β": r"$\beta$",
    "α": r"$\alpha$",
    "‖": r"$\Vert$",
    "·": r"$\cdot$",
    "×": r"$\times$",
}


def _escape(text: str) -> str:
    """Text with LaTeX's own signs escaped.

    >>> _escape("clip_tiny, 50 %")
    'clip\\\\_tiny, 50 \\\\%'
    """
    for sign in "&%#_":
        text = text.replace(sign, f"\\{sign}")
    for sign, command in _SIGNS.items():
        text = text.replace(sign, command)
    return text
