"""What the page answers: from a visitor's picture and controls to HTML, without the browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from PIL import Image

from analysis.explorer import board, segments
from analysis.explorer import explain as explainer
from analysis.explorer.passes import Pass
from analysis.explorer.shelf import Shelf
from analysis.explorer.views import Point
from clearclip.errors import UserError

NONE = "none"  # no second model


@dataclass(frozen=True, eq=False)  # gradio tells by the hash whether something has changed: each visit is another one
class Visit:
    """What one visitor looks at; nobody else sees it.

    Args:
        picture: any size, RGB.
        name: what it is called.
        at: the point in the ring, as shares of height and width.
        own: whether the visitor brought it.
    """

    picture: Image.Image
    name: str
    at: Point = (0.5, 0.5)
    own: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Visit:
        return self  # it cannot change

    def point_at(self, y: float, x: float) -> Visit:
        """The same with the ring elsewhere; raises `UserError` for a point outside the picture."""
        if not (0 <= y < 1 and 0 <= x < 1):
            raise UserError(f"point {y}, {x}: the shares of height and width lie in [0, 1).")
        return replace(self, at=(round(float(y), 6), round(float(x), 6)))


@dataclass(frozen=True)
class Controls:
    """What the page's controls say, in the order in which the page hands them over."""

    first: str
    second: str = NONE
    side: int | None = None
    layer: int = 1
    head: int = 0
    classes: str = ""
    ticked: tuple[str, ...] = ("clip", "clearclip")
    more: str = ""
    own: bool = False
    affinity: str = "qq"
    residual: bool = True
    ffn: bool = False
    alpha: float = 1.0
    beta: float = 0.0
    background: bool = False
    threshold: float = 0.5
    prompts: str = "simple"
    reasons: str = "clip"
    off: tuple[str, ...] = ()
    further: str = ""

    @property
    def models(self) -> list[str]:
        """The one or two models that are looked at."""
        return list(dict.fromkeys(name.strip() for name in (self.first, self.second) if name and name != NONE))

    @property
    def question(self) -> segments.Question:
        """What the models are asked."""
        recipes: list[Any] = segments.named_recipes(list(self.ticked), self.more)
        if self.own:
            recipes.append(segments.own(self.affinity, self.residual, self.ffn, self.alpha, self.beta))
        if not recipes:
            raise UserError("tick at least one recipe.")
        return segments.Question(self.classes, tuple(recipes), self.background, self.threshold, self.prompts)


def answered(answer: Callable[[], str]) -> str:
    """An answer, or what was wrong with the question in words, inside the page's own box."""
    try:
        return f'<div class="explorer">{answer()}</div>'
    except UserError as error:
        return f'<div class="explorer"><p class="warning" role="alert">{escape(str(error))}</p></div>'


def passes(shelf: Shelf, visit: Visit, controls: Controls) -> list[Pass]:
    """What each chosen model makes of the picture."""
    if not controls.models:
        raise UserError("choose a model.")
    return [shelf.look(name, visit.picture, controls.side) for name in controls.models]


def look(shelf: Shelf, visit: Visit, controls: Controls) -> str:
    """The boards of the tab Look."""

    def answer() -> str:
        seen = passes(shelf, visit, controls)
        with shelf.lock:
            return "".join(board.board(each, controls.layer, visit.at, controls.head) for each in seen)

    return answered(answer)


def with_text(shelf: Shelf, visit: Visit, controls: Controls) -> list[tuple[Pass, Pass | None]]:
    """Those of the chosen models that have a text tower, each with the other model."""
    seen = passes(shelf, visit, controls)
    asked = [(each, next((other for other in seen if other is not each), None)) for each in seen if each.model.has_text]
    if not asked:
        names = ", ".join(controls.models)
        raise UserError(f"{names}: without a text tower a model cannot be asked for names; take a CLIP, as clip_tiny.")
    return asked


def segment(shelf: Shelf, visit: Visit, controls: Controls) -> str:
    """The boards of the tab Segment: of each chosen model that has a text tower."""

    def answer() -> str:
        boards = []
        for each, second in with_text(shelf, visit, controls):
            results = segments.segment(shelf, each, controls.question, second)
            with shelf.lock:
                boards.append(segments.board(each, results, visit.at))
        return "".join(boards)

    return answered(answer)


def explain(shelf: Shelf, visit: Visit, controls: Controls) -> str:
    """The boards of the tab Explain: of each chosen model that has a text tower."""

    def answer() -> str:
        question, off = controls.question, explainer.changes(controls.off, controls.further)
        return "".join(
            explainer.board(shelf, each, question, controls.reasons, off, visit.at, second)
            for each, second in with_text(shelf, visit, controls)
        )

    return answered(answer)
