"""The index page: every figure and table with its caption, the command that made it and the origin of its data, in one file."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import xarray as xr

from clearclip.models.names import SHIPPED
from figures.catalogue import Entry
from figures.tables import cells

TITLE = "ClearCLIP, regenerated"
NUMBER = re.compile(r"^((?:Fig\.|Table) \w+(?:, \w+)?)\. ")
STYLE = """
:root { color-scheme: light dark; --text: #1b1b1f; --soft: #5b5b66; --page: #fdfdfc; --line: #dddde2;
  --box: #f3f3f5; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6ea; --soft: #a2a2ad; --page: #17171a; --line: #35353c; --box: #212126; --link: #7db7f2; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 60rem; background: var(--page); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
a { color: var(--link); }
nav { margin: 1.5rem 0 0; line-height: 2; }
nav a { display: inline-block; margin-right: .9rem; white-space: nowrap; }
section { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1.5rem; scroll-margin-top: 1rem; }
p { max-width: 46rem; margin: .5rem 0; }
.banner { border-left: .35rem solid #e69f00; background: var(--box); padding: .7rem 1rem; margin: 1.2rem 0; max-width: none; }
.banner.random { border-color: #d01030; }
.soft { color: var(--soft); }
.picture { background: #fff; padding: .75rem; border: 1px solid var(--line); border-radius: .4rem;
  margin: 1rem 0; text-align: center; }
.picture img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: bottom; }
th { font-weight: 600; text-align: left; }
tbody th { font-weight: 400; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--soft); }
th.number { text-align: right; }
tr.new > * { border-top: 1px solid var(--soft); }
details { margin: .6rem 0; font-size: .88rem; }
summary { cursor: pointer; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .6rem 0 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: .84rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.command { display: block; background: var(--box); padding: .5rem .8rem; border-radius: .3rem;
  white-space: pre-wrap; margin: .3rem 0; }
"""


@dataclass(frozen=True)
class Drawn:
    """One finished figure (as PNG) or table, the Datasets behind it by their run, and its other files."""

    entry: Entry
    data: dict[str, xr.Dataset]
    png: bytes = b""
    table: pd.DataFrame | None = None
    files: Sequence[str] = field(default_factory=tuple)


def page(drawings: Sequence[Drawn], left_out: Sequence[str] = (), command: str = "python -m figures") -> str:
    """The page as HTML that needs nothing else: no scripts, no requests, pictures inside.

    >>> "<!doctype html>" in page([])
    True
    """
    contents = "\n".join(
        f'<a href="#{drawing.entry.name}">{html.escape(label(drawing.entry))}</a>' for drawing in drawings
    )
    missing = "".join(f"<li>{html.escape(reason)}</li>" for reason in left_out)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{TITLE}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{TITLE}</h1>
<p>The figures and tables of <em>ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference</em> (ECCV 2024),
drawn from measured data. Each says which command made it and where its data come from.</p>
<code class="command">{html.escape(command)}</code>
{banner(drawings)}
<nav aria-label="Contents">{contents}</nav>
</header>
<main>
{"".join(map(section, drawings))}
{f'<section id="left_out"><h2>Not drawn</h2><ul>{missing}</ul></section>' if missing else ""}
</main>
</body>
</html>
"""


def label(entry: Entry) -> str:
    """How a figure is called: as its caption begins, or by its name.

    >>> from figures.catalogue import ENTRIES
    >>> label(ENTRIES["fig1"]), label(ENTRIES["table1"]), label(ENTRIES["layers"])
    ('Fig. 1, left', 'Table 1', 'Layers')
    """
    numbered = NUMBER.match(entry.caption)
    return numbered[1] if numbered else entry.name.capitalize()


def banner(drawings: Sequence[Drawn]) -> str:
    """What must not be overlooked: random weights, or the small models that come with the package."""
    random: dict[str, None] = {}
    small: dict[str, None] = {}
    for drawing in drawings:
        for dataset in drawing.data.values():
            for model in models(dataset):
                if model["random_weights"]:
                    random[str(model["model"])] = None
                elif str(model.get("architecture", "")).removeprefix("zoo:") in SHIPPED:
                    small[str(model["model"])] = None
    lines = []
    if random:
        names = html.escape(", ".join(random))
        lines.append(
            f'<p class="banner random"><strong>Random weights: {names}.</strong> '
            "These numbers say nothing about a trained model.</p>"
        )
    if small:
        names = html.escape(" and ".join(small))
        lines.append(
            f'<p class="banner"><strong>Made with {names}</strong>, small models that were trained on drawn scenes and come with '
            "the toolkit. <code>clip_tiny</code> was chosen because it shows the paper's effect, so it is a demonstration and "
            "no evidence. Where they differ from the paper, their cards in <code>clearclip/zoo/weights</code> say. For the real "
            "ones name <code>--model</code>, <code>--against</code> and <code>--dataset</code>.</p>"
        )
    return "\n".join(lines)


def section(drawing: Drawn) -> str:
    """One figure or table with its caption, its files and the origin of its data."""
    first, *more = re.split(r"\n\s*\n", drawing.entry.caption)
    first = NUMBER.sub("", first)  # the heading says so
    paragraphs = [prose(text) for text in (first, *more)]
    if drawing.table is not None:
        content = as_html(drawing.table)
    else:
        alt = html.escape(f"{label(drawing.entry)}: {' '.join(first.split())}", quote=True)
        content = f'<div class="picture"><img alt="{alt}" src="data:image/png;base64,{b64encode(drawing.png).decode()}"></div>'
    files = ", ".join(f'<a href="{html.escape(file, quote=True)}">{html.escape(file)}</a>' for file in drawing.files)
    commands = "".join(f'<code class="command">{html.escape(command)}</code>' for command in made_by(drawing))
    return f"""
<section id="{drawing.entry.name}">
<h2>{html.escape(label(drawing.entry))}</h2>
{"".join(f"<p>{text}</p>" for text in paragraphs)}
{content}
{f'<p class="soft">Beside this page: {files}</p>' if files else ""}
<details><summary>How it was made, and from which data</summary>
{commands}
{"".join(origin(name, dataset) for name, dataset in drawing.data.items())}
</details>
</section>
"""


def prose(text: str) -> str:
    """A paragraph of a caption as HTML.

    >>> prose("from X_res & X_attn")
    'from X<sub>res</sub> &amp; X<sub>attn</sub>'
    """
    return re.sub(r"\bX_(res|attn|sum)\b", r"X<sub>\1</sub>", html.escape(" ".join(text.split())))


def made_by(drawing: Drawn) -> list[str]:
    """The commands that computed the Datasets, and the one that drew."""
    computed = [str(dataset.attrs.get("command", "unknown command")) for dataset in drawing.data.values()]
    return [*dict.fromkeys(computed), f"python -m figures {drawing.entry.name} --data FOLDER"]


def as_html(table: pd.DataFrame) -> str:
    """A table as HTML, as it is written elsewhere: what repeats is left blank, a rule parts the values of the first column."""
    head, *rows = cells(table)
    levels = table.index.nlevels
    lines, before = [], [""] * levels
    for row in rows:
        new = next((i for i in range(levels) if row[i] != before[i]), levels)
        about = "".join(f"<th>{html.escape(text) if i >= new else ''}</th>" for i, text in enumerate(row[:levels]))
        numbers = "".join(f"<td>{html.escape(text)}</td>" for text in row[levels:])
        kind = "new" if new == 0 else "same"
        lines.append(f'<tr class="{kind}">{about}{numbers}</tr>')
        before = row[:levels]
    kinds = ["about"] * levels + ["number"] * (len(head) - levels)
    heads = "".join(f'<th class="{kind}">{html.escape(text)}</th>' for kind, text in zip(kinds, head, strict=True))
    note = table.attrs.get("note", "")
    body = "\n".join(lines)
    below = f'<p class="soft">{prose(note)}</p>' if note else ""
    rows_and_head = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    return f'<div class="wide">{rows_and_head}</div>{below}'


def models(dataset: xr.Dataset) -> list[dict[str, object]]:
    """What a Dataset says of each of its models."""
    names = [str(name) for name, coord in dataset.coords.items() if coord.dims == ("model",)]
    columns = {name: dataset[name].values.tolist() for name in names}
    return [
        {"random_weights": False, **{name: values[i] for name, values in columns.items()}}
        for i in range(dataset.sizes.get("model", 0))
    ]


def origin(name: str, dataset: xr.Dataset) -> str:
    """Where one Dataset comes from: models, weights, pictures, libraries, time."""
    rows = {"Dataset": f"{name}.nc"}
    for model in models(dataset):
        random = ", RANDOM" if model["random_weights"] else ""
        weights = f"{model.get('weights', '')}{random}, SHA-256 {model.get('weights_sha256', '')}"
        rows[str(model["model"])] = f"{model.get('architecture', '')}; weights {weights}; {model.get('precision', '')}"
    rows["pictures"] = pictures(dataset)
    skipped = json.loads(dataset.attrs.get("skipped", "[]"))
    if skipped:
        rows["skipped"] = f"{len(skipped)} that could not be read"
    rows["libraries"] = str(dataset.attrs.get("libraries", ""))
    rows["computed"] = str(dataset.attrs.get("created", ""))
    return (
        "<dl>" + "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in rows.items() if v) + "</dl>"
    )


def pictures(dataset: xr.Dataset) -> str:
    """How many pictures, of what."""
    if "images" in dataset and "dataset" in dataset.dims:
        counts = dataset.images.max("model").values.astype(int).tolist()
        return ", ".join(f"{count} of {name}" for name, count in zip(dataset.dataset.values, counts, strict=True))
    count = dataset.attrs.get("images", dataset.sizes.get("image", ""))
    if "source" in dataset.coords:
        names = dataset.source.values.tolist()
        return ", ".join(f"{names.count(name)} of {str(name).rsplit('/', 1)[-1]}" for name in dict.fromkeys(names))
    return f"{count} of {dataset.attrs['dataset']}" if dataset.attrs.get("dataset") else f"{count}"
