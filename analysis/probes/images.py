"""Where pictures come from: folders, single files, the photographs that come with scikit-image, or drawn scenes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files as resources
from pathlib import Path

from PIL import Image

from clearclip.datasets import BENCHMARKS
from clearclip.datasets.drawn.scenes import Scenes
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


SCENES, SCENE_SIZE = 48, 128  # how many are drawn, and how large


@dataclass(frozen=True)
class Picture:
    """One picture that has not been read yet: its name in results, how to read it, how many bytes it has, and its source."""

    name: str
    read: Callable[[], Image.Image]
    size: int
    source: str


def pictures(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None, limit: int | None = None
) -> list[Picture]:
    """The pictures of one or several sources: "photographs" (scikit-image's, the default), "scenes" (drawn), folders, files.

    A benchmark is written with its folder, "voc21:data/voc". Folders are searched recursively; names are relative to the
    folder, if it is the only one; a file given twice counts once. `limit` keeps the first ones of each source; single
    files are one source together.

    Raises `UserError` for an empty list, if there is no such file or folder, or no picture in it, or for a limit below 1.

    >>> len(pictures()), pictures(limit=1)[0].name
    (12, 'astronaut.png')
    >>> [picture.name for picture in pictures(["photographs", "scenes"], limit=1)]
    ['astronaut.png', 'scene 0']
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: at least one picture is needed.")
    sources = ["photographs"] if source is None else source
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(dict.fromkeys(sources))
    if not given:
        raise UserError("an empty list of pictures.")
    listed = {name: pictures for name in given if (pictures := _listed(str(name))) is not None}
    roots = [Path(path) for path in given if path not in listed]
    several = len(roots) > 1
    files = dict.fromkeys(root for root in roots if not root.is_dir())  # single files are one source together
    kept = set(list(files)[:limit])
    roots = [root for root in roots if root not in files or root in kept]
    every = {_same(path): (path, root) for root in reversed(roots) for path in reversed(find_images(root)[:limit])}
    files_by_name = {_name(path, root, several): (path, root) for path, root in reversed(every.values())}
    named = [picture for pictures in listed.values() for picture in pictures[:limit]]
    return named + [
        Picture(name, _reader(path), _size(path), str(root)) for name, (path, root) in files_by_name.items()
    ]


def _listed(source: str) -> list[Picture] | None:
    """The pictures of a named source or a benchmark, None for a file or folder."""
    if source in NAMED:
        return NAMED[source]()
    name, colon, root = source.partition(":")
    if not colon or name not in BENCHMARKS:
        return None
    dataset = BENCHMARKS[name](root)
    return [Picture(pair.name, _reader(pair.image), _size(pair.image), name) for pair in dataset.pairs]


def _photographs() -> list[Picture]:
    root = Path(str(resources("skimage.data")))
    return [Picture(name, _reader(root / name), _size(root / name), "photographs") for name in PHOTOGRAPHS]


def _scenes() -> list[Picture]:
    scenes = Scenes("test", SCENES, SCENE_SIZE)
    return [Picture(f"scene {i}", partial(_scene, scenes, i), 0, "scenes") for i in range(SCENES)]


def _scene(scenes: Scenes, index: int) -> Image.Image:
    return scenes[index].image


NAMED: dict[str, Callable[[], list[Picture]]] = {"photographs": _photographs, "scenes": _scenes}


def readable(pictures: Sequence[Picture], strict: bool = False) -> list[Picture]:
    """Those of a few pictures that can be read; the others are named and left out, or refused if `strict`."""
    good = []
    for picture in pictures:
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


def digest(pictures: Sequence[Picture]) -> str:
    """SHA-256 over the names and sizes of the pictures, in their order: which images a result is about."""
    return hashlib.sha256("\n".join(f"{p.name} {p.size}" for p in pictures).encode()).hexdigest()


def _name(path: Path, root: Path, several: bool) -> str:
    return os.fsencode(_label(path, root, several)).decode(errors="backslashreplace")  # a name may be any bytes


def _label(path: Path, root: Path, several: bool) -> str:
    if path == root:
        return path.as_posix() if several else path.name
    return path.as_posix() if several else path.relative_to(root).as_posix()


def _reader(path: Path) -> Callable[[], Image.Image]:
    return lambda: read_image(path)
