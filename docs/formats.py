"""Writes the tables of format.md from the table that readers check, `clearclip.runs.formats`.

python docs/formats.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from clearclip.runs.formats import FORMATS, KNOBS, OPTIONAL, Format, Values

T = TypeVar("T")
PAGE = Path(__file__).parent / "format.md"
TYPES = {"U": "text", "b": "yes or no", "u": "whole number", "iu": "whole number"}


def table(kind: Format) -> str:
    """Variables, labels, further coordinates and attributes of one kind of result."""
    rows = ["| variable | dimensions | units | values |", "|---|---|---|---|"]
    for variable, names in alike(kind.variables):
        needed = "" if variable.needed else " (optional)"
        dims = ", ".join(variable.dims)
        rows.append(f"| {quoted(names)}{needed} | {dims} | {variable.units or '–'} | {words(variable.values)} |")
    labels = "; ".join(f"{quoted(names)} {words(values)}" for values, names in alike(kind.labels))
    along: dict[str, list[str]] = {}
    for name, variable in kind.about.items():
        if name not in KNOBS:
            along.setdefault(variable.dims[0], []).append(name)
    about = "; ".join(f"along `{dim}` {quoted(names)}" for dim, names in along.items())
    lines = [f"Labels: {labels}.", f"Coordinates: {about}.", f"Attributes: {quoted(kind.attributes)}."]
    return "\n\n".join(["\n".join(rows), *lines])


def knobs() -> str:
    """What lies along `recipe`."""
    rows = ["| along `recipe` | values |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{name}` | {words(variable.values)} |" for name, variable in KNOBS.items())])


def attributes() -> str:
    """The attributes that a file may have."""
    kinds = {"text": "text", "count": "number", "list": "JSON list of texts", "object": "JSON object"}
    return "Where they are there: " + ", ".join(f"`{name}` ({kinds[kind]})" for name, kind in OPTIONAL.items()) + "."


def page(text: str) -> str:
    """The page with its tables written anew, each between its markers; what stands around them is kept."""
    parts = {name: table(kind) for name, kind in FORMATS.items()} | {"knobs": knobs(), "attributes": attributes()}
    for name, part in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        assert len(between.findall(text)) == 1, name
        text = between.sub(f"{start}\n\n{part}\n\n{end}".replace("\\", r"\\"), text)
    return text


def alike(entries: Mapping[str, T]) -> Iterator[tuple[T, list[str]]]:
    """What stands one after another and is the same, with its names.

    >>> list(alike({"a": 1, "b": 1, "c": 2}))
    [(1, ['a', 'b']), (2, ['c'])]
    """
    for entry, group in groupby(entries.items(), lambda item: item[1]):
        yield entry, [name for name, _ in group]


def quoted(names: Iterable[str]) -> str:
    """Names as code."""
    return ", ".join(f"`{name}`" for name in names)


def words(values: Values) -> str:
    """Values in words.

    >>> words(Values("fiu", 0, 1, missing=True)), words(Values("U", names=("cosine",)))
    ('number, 0 … 1, or NaN', 'text, of cosine')
    """
    ascending = "ascending" if values.ascending else ""
    return ", ".join(
        filter(None, [TYPES.get(values.kinds, "number"), values.words, ascending, "or NaN" if values.missing else ""])
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
