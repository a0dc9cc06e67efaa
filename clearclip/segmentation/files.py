"""What the results of pictures are called, and pictures a few at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from PIL import Image

from clearclip.errors import UserError
from clearclip.pictures import BadImage, find_images
from clearclip.pixels import Picture, as_picture
from clearclip.textfiles import readable


def photos(sources: Iterable[str]) -> dict[str, Path]:
    """Photos of files and folders, by the names of their results.

    A name is the photo's path below its folder, with a number where another photo has that name.
    """
    roots = {path: root for root in sources for path in find_images(root)}
    names: dict[str, Path] = {}
    for path, root in roots.items():
        below = path.relative_to(root) if path != Path(root) else Path(path.name)
        stem = name = readable(below.with_suffix("").as_posix())
        count = 1
        while name in names:
            count += 1
            name = f"{stem}_{count}"
        names[name] = path
    return names


def refuse_inside(folder: Path, pictures: Iterable[Picture]) -> None:
    """Raise `UserError` for a picture that lies where the results go, which could replace it."""
    for picture in pictures:
        # by os.path: resolve() fails on a link to itself, which is skipped like any file that is no picture
        if isinstance(picture, Path) and Path(os.path.realpath(folder)) in Path(os.path.realpath(picture)).parents:
            raise UserError(
                f"{picture} lies in {folder}, where the results go and could replace it: name another --output."
            )


def batches(pictures: Mapping[str, Picture], size: int) -> Iterator[tuple[dict[str, Image.Image], list[BadImage]]]:
    """Pictures by name, a few at a time so that their windows share forward passes, and why others cannot be read."""
    names = list(pictures)
    for start in range(0, len(names), max(1, size)):
        readable, broken = {}, []
        for name in names[start : start + max(1, size)]:
            try:
                readable[name] = as_picture(pictures[name])
            except BadImage as error:
                broken.append(error)
        yield readable, broken
