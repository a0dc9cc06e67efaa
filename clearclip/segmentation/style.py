"""One style for every figure, and where a figure may be written."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clearclip.errors import UserError

STYLE = Path(__file__).with_name("paper.mplstyle")
WARNING_COLOR = "#B00020"  # for what must not be overlooked, such as random weights
SUFFIXES = (".png", ".pdf", ".svg")


@contextmanager
def style() -> Iterator[None]:
    """The project's figure style, and nothing of it outside."""
    with plt.style.context(STYLE):
        yield


def picture_panel(axes: Axes) -> None:
    """A panel that holds a picture: no ticks, no grid lines, no frame."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as .png, .pdf or .svg by its suffix; raises `UserError` for another one."""
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure.savefig(path)
    plt.close(figure)


def check_suffix(path: Path) -> None:
    """Refuse a figure's file name before hours of work end in a file that cannot be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a figure is written as {', '.join(SUFFIXES)}, by the suffix of its name.")


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
