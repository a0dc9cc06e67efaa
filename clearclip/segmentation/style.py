"""One style for every figure, and where a figure may be written."""

import io
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from clearclip import outputs
from clearclip.errors import UserError

STYLE = Path(__file__).with_name("paper.mplstyle")
WARNING_COLOR = "#B00020"  # for what must not be overlooked, such as random weights
SUFFIXES = (".png", ".pdf", ".svg")
# the mathematics of our own labels: I, X with a name as its index, α, β and ‖, and sums of them
MATH = re.compile(r"\$(?:[IX]|\\(?:Vert|alpha|beta|,)|_\\mathrm\{[a-z]+\}| \+ )+\$")
GLYPH = re.compile(r"^Glyph \d+ .* missing from font", re.DOTALL)  # matplotlib's warning, one for each character
LONGEST = 48  # characters of a name in a legend


@contextmanager
def style() -> Iterator[None]:
    """The project's figure style, and nothing of it outside; in figures made inside, a dollar sign of a name is one."""
    before = set(plt.get_fignums())
    with plt.style.context(STYLE):
        yield
        for number in sorted(set(plt.get_fignums()) - before):
            keep_dollars(plt.figure(number))


def keep_dollars(figure: Figure) -> None:
    """Show what stands between dollar signs as it is, unless it is `MATH`: names of classes and pictures are no formulas.

    >>> figure = plt.figure()
    >>> title = figure.suptitle(r"cost $5, price $6")
    >>> keep_dollars(figure)
    >>> title.get_parse_math()
    False
    """
    for text in figure.findobj(Text):
        if "$" in MATH.sub("", text.get_text()):
            text.set_parse_math(False)


def shortened(name: str) -> str:
    """A name as a legend has room for it.

    >>> shortened("sky"), len(shortened("x" * 1000))
    ('sky', 48)
    """
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def picture_panel(axes: Axes) -> None:
    """A panel that holds a picture: no ticks, no grid lines, no frame."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as .png, .pdf or .svg by its suffix, and close it; raises `UserError` for another suffix."""
    check_suffix(path)
    write(figure, path)
    plt.close(figure)


@contextmanager
def _one_note_of_glyphs() -> Iterator[None]:
    """Inside, characters that the font lacks give one warning, not one each."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    missing = [warning for warning in caught if GLYPH.search(str(warning.message))]
    for warning in caught:
        if warning not in missing:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if missing:
        warnings.warn("the font of figures lacks some characters of a name, which are drawn as boxes", stacklevel=4)


def write(figure: Figure, path: Path) -> None:
    """Write a figure in the project's style, all of it or nothing."""
    content = io.BytesIO()
    keep_dollars(figure)
    with style(), _one_note_of_glyphs():
        figure.savefig(content, format=path.suffix.lower().removeprefix("."))
    outputs.write(path, content.getbuffer())


def check_suffix(path: Path) -> None:
    """Refuse a file name that says no format of figures; raises `UserError`."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a figure is written as {', '.join(SUFFIXES)}, by the suffix of its name.")


def refuse_unwritable(path: Path) -> None:
    """Refuse a figure's file before hours of work end in one that cannot be written; raises `UserError`."""
    check_suffix(path)
    outputs.refuse_unwritable(path)


def refuse_replacing(figures: Iterable[Path], sources: Iterable[str]) -> None:
    """Refuse figures that would replace a picture, before anything is computed.

    Args:
        figures: where figures will be written.
        sources: the files and folders of pictures that were named, or what else stands for pictures.

    Raises:
        UserError: a figure is there already and is one of the pictures.
    """
    for figure, source in product(figures, map(Path, sources)):
        if figure.exists() and source.exists() and source.resolve() in (figure.resolve(), *figure.resolve().parents):
            raise UserError(
                f"{figure} is one of the pictures of {source}, and the figure would replace it: name another --figure."
            )
