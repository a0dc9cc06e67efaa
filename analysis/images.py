"""Where pictures come from: a folder, single files, or the photographs that come with scikit-image."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from PIL import Image

from clearclip.errors import UserError
from clearclip.pictures import BadImage, find_images, read_image

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "rocket.jpg",
)


@dataclass(frozen=True)
class Picture:
    """One picture that has not been read yet: its name in results, how to read it, and how many bytes it has."""

    name: str
    read: Callable[[], Image.Image]
    size: int


def pictures(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None, limit: int | None = None
) -> list[Picture]:
    """The pictures of a folder (recursive), of several files or folders, or scikit-image's photographs (None).

    Names are relative to the folder given; a file given twice counts once. `limit` keeps the first ones.

    Raises `UserError` if there is no such file or folder, or no picture in it, or for a limit below 1.

    >>> len(pictures()), pictures(limit=1)[0].name
    (12, 'astronaut.png')
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: at least one picture is needed.")
    if source is None or (not isinstance(source, (str, os.PathLike)) and not source):
        root = Path(str(files("skimage.data")))
        found = {name: root / name for name in PHOTOGRAPHS}
    else:
        roots = [Path(source)] if isinstance(source, (str, os.PathLike)) else [Path(root) for root in source]
        every = {_same(path): (path, root) for root in reversed(roots) for path in reversed(find_images(root))}
        found = {_name(path, root, len(roots)): path for path, root in reversed(every.values())}
    return [Picture(name, _reader(path), _size(path)) for name, path in list(found.items())[:limit]]


def readable(chosen: Sequence[Picture], strict: bool = False) -> list[Picture]:
    """Those of a few pictures that can be read; the others are named and left out, or refused if `strict`."""
    good = []
    for picture in chosen:
        try:
            picture.read()
        except BadImage as error:
            if strict:
                raise UserError(f"{error} (refused because of strict)") from error
            print(f"skipped: {error}")
        else:
            good.append(picture)
    if not good:
        raise UserError("not one picture could be used.")
    return good


def _same(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (a link is a picture of its own, and resolve() would follow it)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a dangling link: reading it says so, with its name
        return 0


def digest(chosen: Sequence[Picture]) -> str:
    """SHA-256 over the names and sizes of the pictures, in their order: which images a result is about."""
    return hashlib.sha256("\n".join(f"{p.name} {p.size}" for p in chosen).encode()).hexdigest()


def _name(path: Path, root: Path, roots: int) -> str:
    return os.fsencode(_label(path, root, roots)).decode(errors="backslashreplace")  # a name may be any bytes


def _label(path: Path, root: Path, roots: int) -> str:
    if path == root:
        return path.name if roots == 1 else path.as_posix()
    return path.relative_to(root).as_posix() if roots == 1 else path.as_posix()


def _reader(path: Path) -> Callable[[], Image.Image]:
    return lambda: read_image(path)
