"""What recipes make of the picture when they are asked for names, side by side, as HTML."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from analysis.explorer.board import about, photo, ring
from analysis.explorer.passes import Pass
from analysis.explorer.pixels import jpeg, png, shares_as_bytes
from analysis.explorer.shelf import Shelf
from analysis.explorer.views import Point
from clearclip.methods.recipes import RECIPES, Recipe, recipes
from clearclip.methods.titles import method_label
from clearclip.methods.windows import Windows
from clearclip.segmentation.overlay import class_colors
from clearclip.segmentation.result import Segmentation
from clearclip.segmentation.segmenter import Segmenter

OFFERED = ("clip", "maskclip", "sclip", "clip_surgery", "gem", "clearclip", "naclip", "resclip", "sc_clip", "proxyclip")
OWN = "your own"


@dataclass(frozen=True)
class Question:
    """What is asked of the models.

    Args:
        classes: names with commas between them, as for `clearclip.Segmenter`.
        recipes: names of recipes, or `Recipe`s.
        background: whether there is a class background.
        threshold: the score below which a pixel is background.
        prompts: the set of prompt templates.
    """

    classes: str
    recipes: tuple[str | Recipe, ...] = ("clip", "clearclip")
    background: bool = False
    threshold: float = 0.0
    prompts: str = "simple"


def own(affinity: str, residual: bool, ffn: bool, alpha: float, beta: float) -> Recipe:
    """The recipe that a visitor puts together."""
    return Recipe(OWN, affinity, residual=residual, ffn=ffn, alpha=alpha, beta=beta)


def written(recipe: Recipe) -> str:
    """A recipe without stages as the Python that makes it.

    >>> written(own("qq", True, False, 2.0, 0.0))
    "clearclip.Recipe('your own', 'qq', residual=True, ffn=False, alpha=2.0, beta=0.0)"
    """
    knobs = ", ".join(f"{knob}={getattr(recipe, knob)!r}" for knob in ("residual", "ffn", "alpha", "beta"))
    return f"clearclip.Recipe({recipe.name!r}, {recipe.affinity!r}, {knobs})"


def segmenter(shelf: Shelf, seen: Pass, question: Question, second: Pass | None = None) -> Segmenter:
    """A segmenter that finds the pass where it is, so that the trunk does not run again.

    Args:
        second: what another model made of the picture, for recipes that look at a second model.

    Raises:
        UserError: the model has no text tower, or the question cannot be asked.
    """
    asked = recipes(question.recipes)
    proxy = second.model if second is not None and any(recipe.needs_guide for recipe in asked) else None
    return Segmenter(
        seen.model,
        question.classes,
        asked,
        question.background,
        question.threshold if question.background else 0.0,
        Windows.of_side(seen.picture.height),
        question.prompts,
        shelf.texts,
        proxy,
        passes=seen.passes,
    )


def segment(shelf: Shelf, seen: Pass, question: Question, second: Pass | None = None) -> dict[str, Segmentation]:
    """The result of every recipe; what the text tower was never trained on is said on the board and not on the console."""
    with shelf.lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*was never trained on some words")
        (results,) = segmenter(shelf, seen, question, second).each([seen.picture])
        return results


def board(seen: Pass, results: Mapping[str, Segmentation], at: Point, scored: bool = True) -> str:
    """Every recipe's map beside the others, one legend, and, where they are wanted, the scores at the point."""
    model, classes = seen.model, next(iter(results.values())).classes
    unknown = model.untrained(list(classes))
    words = escape(", ".join(unknown))
    note = f"<p class=note>{escape(model.name)} was never trained on: {words}. What it says of them is arbitrary.</p>"
    return (
        f'<section class="board segments" aria-label="{escape(model.name)}: label maps"><h2>{escape(model.name)} '
        f"<small>{about(seen).removeprefix(' · ')}</small></h2>{note if unknown else ''}"
        f"{legend(classes)}{maps(seen, results, at if scored else None)}{scores(results, at) if scored else ''}</section>"
    )


def maps(seen: Pass, results: Mapping[str, Segmentation], at: Point | None) -> str:
    """The picture, and the label maps over it in gray, with a ring at a point, or without one where nothing is asked."""
    gray, (rows, columns) = jpeg(seen.picture.convert("L")), seen.grid
    cells = "".join(
        f'<figure><div class="map stack"><img alt="" src="{gray}"><img class="labels" '
        f'alt="{escape(covered(result))}" src="{png(_painted(result))}">{ring(seen, at) if at else ""}</div>'
        f"<figcaption><b>{escape(method_label(name))}</b></figcaption></figure>"
        for name, result in results.items()
    )
    return f'<div class="maps" data-rows="{rows}" data-columns="{columns}">{photo(seen, at) if at else ""}{cells}</div>'


def _painted(result: Segmentation) -> Image.Image:
    """The labels as a palette picture in the colors that classes have everywhere."""
    image = Image.fromarray(result.labels.astype(np.uint8)).convert("P")
    image.putpalette(shares_as_bytes(class_colors(result.classes)).tobytes())
    return image


def covered(result: Segmentation) -> str:
    """What covers how much of the picture, largest first."""
    shares = sorted(result.shares.items(), key=lambda item: -item[1])
    return f"{method_label(result.recipe)}: " + ", ".join(
        f"{name} {share:.0%}" for name, share in shares if share >= 0.005
    )


def legend(classes: tuple[str, ...]) -> str:
    """The classes and their colors."""
    colors = shares_as_bytes(class_colors(classes)).tolist()
    items = "".join(
        f'<li><i style="background:rgb({r},{g},{b})"></i>{escape(name)}</li>'
        for name, (r, g, b) in zip(classes, colors, strict=True)
    )
    return f'<ul class="legend">{items}</ul>'


def pixel(result: Segmentation, at: Point) -> tuple[int, int]:
    """Row and column of the pixel at a point."""
    return int(at[0] * result.picture.height), int(at[1] * result.picture.width)


def scores(results: Mapping[str, Segmentation], at: Point) -> str:
    """The scores of every class at a point, recipes side by side; each recipe's highest is marked."""
    classes = next(iter(results.values())).classes
    columns = {name: result.scores[:, *pixel(result, at)] for name, result in results.items()}
    head = "".join(f"<th scope=col>{escape(method_label(name))}</th>" for name in results)
    lines = []
    for i, cls in enumerate(classes):
        cells = "".join(
            f'<td{" class=best" if values.argmax() == i else ""} style="--share:{100 * values[i]:.1f}%">{values[i]:.2f}</td>'
            for values in columns.values()
        )
        lines.append(f"<tr><th scope=row>{escape(cls)}</th>{cells}</tr>")
    return (
        "<h3>Scores in the ring <small>how sure each recipe is, all classes together are 1</small></h3>"
        f'<div class="scores" tabindex="0" role="region" aria-label="Scores in the ring"><table><thead><tr><td></td>{head}</tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def named_recipes(ticked: list[str], more: str) -> list[str]:
    """Recipes that were ticked, in the order in which they are offered, and those that were written, with ; between them."""
    written = [text.strip() for text in more.split(";") if text.strip()]
    return [*[name for name in RECIPES if name in ticked], *written]
