"""Where pictures come from: folders, files, memory, data sets, scikit-image's photographs, or drawn scenes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib.resources import files as resources
from itertools import count, islice
from pathlib import Path
from typing import Any

from PIL import Image

from clearclip.contents import pixel_digest
from clearclip.datasets import BENCHMARKS, LabelledPictures, is_dataset, parse
from clearclip.datasets.drawn.scenes import Scenes
from clearclip.datasets.entries import entries
from clearclip.datasets.files import LabelledFiles
from clearclip.entries import Entry
from clearclip.errors import UserError
from clearclip.pictures import find_images, read_image
from clearclip.pixels import in_memory
from clearclip.textfiles import readable
from clearclip.words import distinct

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


STREAMED = {  # what stands before the colon of a source that is streamed → the module that knows it
    "webdataset": "analysis.scale.tars",
    "hf": "analysis.scale.huggingface",
}

Picture = Entry[Image.Image]
"""One picture that has not been decoded yet."""


def pictures(source: Any = None, limit: int | None = None) -> list[Picture]:
    """The pictures of one or several sources, whatever they are.

    Args:
        source: "photographs" (scikit-image's, the default), "scenes" (drawn), a benchmark with its folder such as
            voc21:data/voc, folders, files, PIL images, arrays (H, W, 3), tensors (3, H, W), batches of these, a DataLoader,
            a data set, or a list of any of these. Colors are whole numbers from 0 to 255 or floats from 0 to 1. Folders are
            searched recursively, and of a data set's folder only images/ is taken. A DataLoader is read at once, as 8-bit
            RGB, so for many pictures name a folder.
        limit: only the first ones of each source. Single files are one source together, and so is what is in memory.

    Returns:
        One `Picture` each, files by their names relative to the only folder, a file given twice once; those in memory are
        called "picture 0", "picture 1", …. Names are unique: where two would be equal, the source stands in front of them.

    Raises:
        UserError: there is no such file or folder, or no picture in it, it is nothing that pictures can be taken from, its
            values are normalized already, or the limit is below 1.

    >>> len(pictures()), pictures(limit=1)[0].name
    (12, 'astronaut.png')
    >>> [picture.name for picture in pictures(["photographs", "scenes"], limit=1)]
    ['astronaut.png', 'scene 0']
    >>> import numpy as np
    >>> [picture.name for picture in pictures(np.zeros((2, 40, 60, 3), np.uint8))]
    ['picture 0', 'picture 1']
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: at least one picture is needed.")
    sources = ["photographs"] if source is None else list(source) if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise UserError("an empty list of pictures.")
    if any(isinstance(part, str) and not part for part in sources):
        find_images("")  # raises, saying why
    paths = dict.fromkeys(part for part in sources if isinstance(part, (str, os.PathLike)))
    listed = {path: pictures for path in paths if (pictures := _listed(str(path))) is not None}
    others = [part for part in sources if not isinstance(part, (str, os.PathLike))]
    datasets = [part for part in others if is_dataset(part)]
    titles = distinct([*(pictures[0].source for pictures in listed.values()), *(dataset.name for dataset in datasets)])
    named = [
        replace(picture, source=title)
        for title, pictures in zip(titles, listed.values(), strict=False)
        for picture in pictures[:limit]
    ]
    held = islice(_held(others, iter(titles[len(listed) :])), limit)
    return _told_apart([*named, *held, *_on_disk([Path(path) for path in paths if path not in listed], limit)])


def _told_apart(listed: list[Picture]) -> list[Picture]:
    """Pictures of which no two have one name: equal ones get their source in front, and numbers if that is not enough."""
    often = Counter(picture.name for picture in listed)
    names = [_with_source(picture) if often[picture.name] > 1 else picture.name for picture in listed]
    return [replace(picture, name=name) for picture, name in zip(listed, distinct(names), strict=True)]


def _with_source(picture: Picture) -> str:
    single = picture.source.split("/")[-1] == picture.name  # a file of its own, whose source is its path
    return picture.source if single else f"{picture.source}/{picture.name}"


def _on_disk(roots: list[Path], limit: int | None) -> list[Picture]:
    """The pictures of folders and single files."""
    roots = [
        root / "images" if (root / "classes.txt").is_file() and (root / "images").is_dir() else root for root in roots
    ]
    several = len(roots) > 1
    files = dict.fromkeys(root for root in roots if not root.is_dir())  # single files are one source together
    kept = set(list(files)[:limit])
    roots = [root for root in roots if root not in files or root in kept]
    every = {_same(path): (path, root) for root in reversed(roots) for path in reversed(find_images(root)[:limit])}
    return [_of_file(_name(path, root, several), path, readable(root)) for path, root in reversed(every.values())]


def _held(sources: Iterable[Any], titles: Iterator[str]) -> Iterator[Picture]:
    """The pictures of what is not on disk, and of open data sets, which have titles as sources."""
    number = count()
    for source in sources:
        if isinstance(source, Entry):
            yield source
        elif is_dataset(source):
            yield from _labelled(source, next(titles))
        else:
            for image in in_memory(source):
                yield Picture(f"picture {next(number)}", image.copy, "memory", promise=pixel_digest(image))


def _labelled(dataset: LabelledPictures, title: str) -> list[Picture]:
    """The pictures of a data set without their labels, each read when it is needed."""
    if isinstance(dataset, LabelledFiles):
        return [_of_file(pair.name, pair.image, title) for pair in dataset.pairs]
    return [
        Picture(entry.name, partial(_image, dataset, index), title, promise=entry.promise)
        for index, entry in enumerate(entries(dataset))
    ]


def _image(dataset: LabelledPictures, index: int) -> Image.Image:
    return dataset[index].image


def _listed(source: str) -> list[Picture] | None:
    """The pictures of a named source or a benchmark, None for a file or folder."""
    if source in NAMED:
        return NAMED[source]()
    if is_streamed(source):
        raise UserError(
            f"{source} is a stream. Statistics, entropy, maxima, channels, norms and tokens take one, alone; elsewhere name files "
            "or folders."
        )
    if source.partition(":")[0] not in BENCHMARKS or Path(source).exists():
        return None
    dataset = parse(source)
    return _labelled(dataset, dataset.name)


def is_streamed(source: str) -> bool:
    """Whether a source is a stream of pictures in shards, which is never listed.

    >>> is_streamed("webdataset:data/train-{000..099}.tar"), is_streamed("data/train")
    (True, False)
    """
    kind, colon, _ = source.partition(":")
    return bool(colon) and kind in STREAMED


def _photographs() -> list[Picture]:
    root = Path(str(resources("skimage.data")))
    return [_of_file(name, root / name, "photographs") for name in PHOTOGRAPHS]


def _scenes() -> list[Picture]:
    scenes = Scenes("test", SCENES, SCENE_SIZE)
    return [Picture(f"scene {i}", partial(_image, scenes, i), "scenes", promise=scenes.identity) for i in range(SCENES)]


NAMED: dict[str, Callable[[], list[Picture]]] = {"photographs": _photographs, "scenes": _scenes}


def _same(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (a link is a picture of its own, and resolve() would follow it)


def _of_file(name: str, path: Path, source: str) -> Picture:
    return Picture(name, partial(read_image, path), source, (path,))


def _name(path: Path, root: Path, several: bool) -> str:
    if several:
        return readable(path)
    return readable(path.name if path == root else path.relative_to(root))
