"""Writes the page of errors: every message that the code can raise, once, with its way out.

python docs/errors.py            # writes docs/errors.md; names the messages that have no way out yet

A message is found where the code makes a `UserError` or one of its kinds; what stands in braces becomes …. Many messages end
with what to do. For the others it is written by hand in docs/errors.json, keyed by the message.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE, WAYS_OUT = HERE / "errors.md", HERE / "errors.json"
KINDS = ("UserError", "BadImage", "BadLabel", "ValueError")  # a reader's ValueError becomes the end of a BadImage
ANY = "…"  # what a message says about the case at hand
ROOMS = {  # a file belongs to the first of these that its path begins with
    "clearclip/messages.py": "Limits of the machine, and what libraries say",
    "clearclip/datasets": "Data sets and labels",
    "clearclip/evaluation": "Measuring recipes",
    "clearclip/methods": "Recipes",
    "clearclip/models": "Models and weights",
    "clearclip/runs": "Long runs and results",
    "clearclip/segmentation": "Segmentation, class names and prompts",
    "clearclip/pictures.py": "Pictures",
    "clearclip/pixels.py": "Pictures",
    "clearclip/zoo": "The small models",
    "clearclip": "Command lines",
    "analysis/probes": "Inside the blocks",
    "analysis": "Questions and their figures",
    "figures": "The paper's figures and tables",
}
ADVICE = re.compile(  # the words with which messages say what to do, or what is allowed
    r"\b(choose|take|use|name|give|drop|delete|repeat|write|leave|save|set|make|install|convert|call|run|rename|free|complete|"
    r"connect|measure|closest|must be|needs?|needed|at least|exclude|goes with|supported are|has:|are:|or|between)\b|[Cc]loses?t"
    r"|python -m|--help",
    re.IGNORECASE,
)
START = """# Errors

A mistake, a file that cannot be used, or a limit of the machine gives one message and exit code 2. The message says what was given,
what is allowed and what to do next. In Python it is a `clearclip.UserError`, a kind of `ValueError`. All exit codes:

| exit code | what it means |
|---|---|
| 0 | done |
| 1 | done, and the answer is no: `clearclip datasets check voc20` found faults |
| 2 | a mistake, a file that cannot be used, or a limit of the machine; the message says what to do |
| 70 | a bug of this toolkit: repeat the command with `--debug` and report the file that it then names |
| 130, 143 | stopped by Ctrl-C or by SIGTERM; what is done is kept, and a long run continues with the same command |
| 141 | whoever read the output has gone, as in `clearclip --help \\| head` |

Tracebacks are shown with `--debug` only, which every command takes. Below stands every message, with … for names and numbers. Where
the second column is empty, the message itself says what to do.
"""


def text_of(node: ast.expr) -> str:
    """The template of a message; whatever is only known when it is raised becomes ….

    >>> text_of(ast.parse("f'{name}: no such {kind!r}' + '.'", mode="eval").body)
    '…: no such ….'
    """
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(text_of, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left) + text_of(right)
    return ANY


def messages_in(tree: ast.Module) -> Iterator[str]:
    """The messages of one file, as they stand on the page."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", getattr(node.func, "attr", "")) in KINDS
            and node.args
        ):
            yield " ".join(re.sub(rf"{ANY}+", ANY, text_of(node.args[0])).split())
        if isinstance(node, ast.FunctionDef) and node.name == "message":  # of clearclip/messages.py
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and isinstance(inner.value, ast.JoinedStr):
                    yield " ".join(re.sub(rf"{ANY}+", ANY, text_of(inner.value)).split())


def collected() -> dict[str, list[str]]:
    """Room → its messages in order; a message that several rooms have stands in the first."""
    rooms: dict[str, list[str]] = {title: [] for title in ROOMS.values()}  # in the order of the page
    seen = {ANY}
    for start, title in ROOMS.items():
        for file in sorted(ROOT.joinpath(start.partition("/")[0]).rglob("*.py")):
            path = file.relative_to(ROOT).as_posix()
            if next(room for room in ROOMS if path.startswith(room)) != start:
                continue
            for message in messages_in(ast.parse(file.read_text("utf-8"))):
                if message not in seen:
                    rooms[title].append(message)
                    seen.add(message)
    return {title: sorted(found) for title, found in rooms.items() if found}


def advises(message: str) -> bool:
    """Whether a message says itself what to do, after what was given.

    >>> advises("…: a figure is written as …, by the suffix of its name."), advises("not one picture could be used.")
    (True, False)
    """
    return bool(ADVICE.search(message))


def wanting(rooms: dict[str, list[str]], ways_out: dict[str, str]) -> list[str]:
    """The messages without a way out: neither do they say it, nor does it stand in the file."""
    return [
        message for messages in rooms.values() for message in messages if not (message in ways_out or advises(message))
    ]


def page(rooms: dict[str, list[str]], ways_out: dict[str, str]) -> str:
    """The page."""
    parts = [START]
    for title, messages in rooms.items():
        rows = [row(message, ways_out.get(message, "")) for message in messages]
        parts.append("\n".join([f"## {title}\n", "| message | what to do |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def row(message: str, way_out: str) -> str:
    """A line of the table; the message as code, for it holds what Markdown would take for its own.

    >>> row("it has `a` or b|c", "Take a.")
    '| `` it has `a` or b\\\\|c `` | Take a. |'
    """
    marks, space = ("``", " ") if "`" in message else ("`", "")
    escaped, way_out = (text.replace("|", r"\|") for text in (message, way_out))
    return f"| {marks}{space}{escaped}{space}{marks} | {way_out} |"


def main() -> int:
    """Write the page; 1 if a message has no way out."""
    rooms, ways_out = collected(), json.loads(WAYS_OUT.read_text("utf-8"))
    PAGE.write_text(page(rooms, ways_out), "utf-8")
    known = {message for messages in rooms.values() for message in messages}
    for message in sorted(ways_out.keys() - known):
        print(f"no longer in the code: {message}", file=sys.stderr)
    for message in wanting(rooms, ways_out):
        print(f"no way out: {message}", file=sys.stderr)
    return 1 if wanting(rooms, ways_out) or ways_out.keys() - known else 0


if __name__ == "__main__":
    sys.exit(main())
