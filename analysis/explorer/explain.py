"""Why the patch in the ring has its label: what each component adds, and what the map becomes without some of them, as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import NamedTuple

import numpy as np
import torch

from analysis.attribution.components import Component
from analysis.attribution.directions import of_texts
from analysis.attribution.parts import decompose, refuse_stages
from analysis.attribution.readout import Readout
from analysis.explorer import segments
from analysis.explorer.board import about
from analysis.explorer.passes import Pass
from analysis.explorer.segments import Question
from analysis.explorer.shelf import Shelf
from analysis.explorer.views import Point
from clearclip.errors import UserError
from clearclip.interventions import Change, Heads
from clearclip.interventions.text import parse
from clearclip.methods.recipes import RECIPES, Recipe, recipe
from clearclip.methods.stages.intervene import Intervene
from clearclip.methods.titles import method_label

WITHOUT = "with these switched off"
BARS = 14  # components that are shown by themselves
OFFERED = tuple(name for name in segments.OFFERED if not RECIPES[name].pipeline)  # scores that are sums over components


class Taken(NamedTuple):
    """The score of every patch taken apart.

    Args:
        names: what was asked for, T of them.
        owner: the class of each name, (T,).
        components: K of them.
        values: what each component adds to the cosine, (rows, columns, K, T).
        cosines: (rows, columns, T).
    """

    names: list[str]
    owner: np.ndarray
    components: list[Component]
    values: np.ndarray
    cosines: np.ndarray


class Reason(NamedTuple):
    """Why one patch has its label.

    Args:
        label: the name with the highest cosine.
        rival: the one of another class that comes next.
        margin: how far it is ahead, the sum of `adds`.
        adds: what each component adds to the margin, (K,).
    """

    label: str
    rival: str
    margin: float
    adds: np.ndarray


def taken_apart(shelf: Shelf, seen: Pass, question: Question, which: Recipe, second: Pass | None) -> Taken:
    """The scores of all patches as sums over components; kept until another question is asked.

    Raises:
        UserError: the model has no text tower, or the recipe's scores are no such sum.
    """
    refuse_stages(which)
    guide = second.model if second is not None and which.needs_guide else None
    key = question.classes, question.prompts, which, None if guide is None else guide.name

    def compute() -> Taken:
        asked = of_texts(seen.model, question.classes, question.prompts, shelf.texts)
        side = seen.picture.height
        image = seen.model.transform(side)(seen.picture)[None].to(seen.model.device)
        parts = decompose(Readout(seen.model, asked.vectors), image, which, guide)
        values, cosines = (x[0].unflatten(0, parts.grid).float().cpu().numpy() for x in (parts.values, parts.cosines))
        return Taken(asked.names, asked.owner.cpu().numpy(), parts.components, values, cosines)

    with shelf.lock, torch.inference_mode():
        return seen.latest("taken apart", key, compute)


def reason(taken: Taken, patch: tuple[int, int]) -> Reason:
    """What puts the name with the highest cosine before the next one of another class, at one patch."""
    cosines = taken.cosines[patch]
    best = int(cosines.argmax())
    others = np.where(taken.owner == taken.owner[best], -np.inf, cosines)
    if not np.isfinite(others).any():
        raise UserError("a label needs a rival: name at least two classes.")
    rival = int(others.argmax())
    adds = taken.values[patch][:, best] - taken.values[patch][:, rival]
    return Reason(taken.names[best], taken.names[rival], float(cosines[best] - cosines[rival]), adds)


def changes(heads: Sequence[str], further: str) -> tuple[Change, ...]:
    """What is switched off.

    Args:
        heads: as "layer 3 head 1".
        further: interventions as on the command line, with ; between them.

    >>> changes(["layer 6 head 1"], "layer=6,channel=5,17")
    (Heads(layer=6, heads=(1,)), Channels(layer=6, channels=(5, 17)))
    """
    found = [re.fullmatch(r"layer (\d+) head (\d+)", name) for name in heads]
    written = [f"layer={head[1]},head={head[2]}" for head in found if head]
    return tuple(change for text in [*written, *further.split(";")] if text.strip() for change in parse(text.strip()))


def board(
    shelf: Shelf,
    seen: Pass,
    question: Question,
    name: str,
    off: tuple[Change, ...],
    at: Point,
    second: Pass | None = None,
) -> str:
    """The bars at the point, and the map of a recipe as it is and with something switched off."""
    which = recipe(name)
    taken = taken_apart(shelf, seen, question, which, second)
    asked: list[str | Recipe] = [which]
    if off:
        asked.append(replace(which, name=WITHOUT, stages=(*map(Intervene, off), *which.stages)))
    results = segments.segment(shelf, seen, replace(question, recipes=tuple(asked)), second)
    maps = segments.maps(seen, results, at)
    changed = ""
    if off:
        share = (results[which.name].labels != results[WITHOUT].labels).mean()
        changed = f"<p class=note>Without {escape(', '.join(map(str, off)))} {share:.0%} of the pixels have another label.</p>"
    model, why = escape(seen.model.name), reason(taken, seen.patch(at))
    title = f"{model} <small>{escape(method_label(name))}{about(seen)}</small>"
    return (
        f'<section class="board explained" aria-label="{model}: why a patch has its label"><h2>{title}</h2>'
        f"{segments.legend(results[which.name].classes)}"
        f'<div class="split"><div>{maps}{changed}</div>{bars(taken, why, off)}</div></section>'
    )


def bars(taken: Taken, why: Reason, off: tuple[Change, ...] = ()) -> str:
    """The components that put the label before its rival, strongest first, each head with a switch."""
    order = np.abs(why.adds).argsort()[::-1][:BARS]
    rest = why.adds.sum() - why.adds[order].sum()
    widest = max(float(np.abs(why.adds).max()), abs(float(rest)), 1e-9)
    pressed = {(change.layer, head) for change in off if isinstance(change, Heads) for head in change.heads}
    lines = [
        _bar(
            taken.components[i],
            float(why.adds[i]),
            widest,
            (taken.components[i].layer, taken.components[i].head) in pressed,
        )
        for i in order
    ]
    lines.append(_row(f"all {len(why.adds) - len(order)} others", float(rest), widest, ""))
    label, rival = escape(why.label), escape(why.rival)
    return (
        f"<div><h3>Why “{label}” and not “{rival}” <small>here its cosine is {why.margin:.4f} higher, "
        "which is the sum of</small></h3>"
        '<table class="bars"><thead><tr><th scope=col>component</th><th scope=col>adds</th><th scope=col>'
        f'<span class="sr">bar</span></th><th scope=col><span class="sr">switch</span></th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _bar(component: Component, value: float, widest: float, off: bool) -> str:
    switch = (
        f'<button type="button" data-head="{component}" aria-pressed="{str(off).lower()}">'
        f"{'switch on' if off else 'switch off'}<span class=sr> {component}</span></button>"
        if component.kind == "head"
        else ""
    )
    return _row(str(component), value, widest, switch)


def _row(name: str, value: float, widest: float, switch: str) -> str:
    share = 50 * abs(value) / widest
    side = f"left:50%;width:{share:.1f}%" if value >= 0 else f"left:{50 - share:.1f}%;width:{share:.1f}%"
    number = f"{value:+.4f}".replace("-", "−")
    return (
        f"<tr><th scope=row>{escape(name)}</th><td>{number}</td>"
        f'<td class="bar {"for" if value >= 0 else "against"}"><i style="{side}"></i></td><td>{switch}</td></tr>'
    )
