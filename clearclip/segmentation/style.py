"""One style for every figure, and where a figure may be written."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clearclip import outputs
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
    """Write a figure as .png, .pdf or .svg by its suffix, and close it; raises `UserError` for another suffix."""
    check_suffix(path)
    write(figure, path)
    plt.close(figure)


def write(figure: Figure, path: Path) -> None:
    """Write a figure in the project's style, all of it or nothing."""
    content = io.BytesIO()
    with style():
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
