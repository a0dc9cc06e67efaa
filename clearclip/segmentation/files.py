"""What the results of pictures are called, and pictures a few at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from clearclip.errors import UserError
from clearclip.pictures import BadImage, find_images
from clearclip.pixels import Picture, as_picture
from clearclip.textfiles import readable

ENDS = (".png", ".npz", "_overlay.png")  # what is written of a picture and recipe: labels, labels and scores, figure
COMPARISON = "_compare.png"  # what is written of a picture with several recipes, beside those
SHARES = "shares.csv"  # what is written of all pictures


def photos(sources: Iterable[str]) -> dict[str, Path]:
    """Photos of files and folders, by the names of their results.

    A name is the photo's path below its folder, with a number where another photo has that name. Names that differ only in
    capitals count as one, since they are one file on many disks.
    """
    roots = {path: root for root in sources for path in find_images(root)}
    names: dict[str, Path] = {}
    taken: set[str] = set()
    for path, root in roots.items():
        below = path.relative_to(root) if path != Path(root) else Path(path.name)
        stem = name = readable(below.with_suffix("").as_posix())
        count = 1
        while name.casefold() in taken:
            count += 1
            name = f"{stem}_{count}"
        names[name] = path
        taken.add(name.casefold())
    return names


def stems(name: str, recipes: Iterable[str]) -> dict[str, str]:
    """What the results of a picture are called, by recipe, to which `ENDS` are added; a single recipe is not named.

    >>> stems("a", ["clip"]), stems("a", ["clip", "clip alpha=2"])
    ({'clip': 'a'}, {'clip': 'a_clip', 'clip alpha=2': 'a_clip_alpha=2'})
    """
    names = list(recipes)
    if len(names) == 1:
        return {names[0]: name}
    return {recipe: f"{name}_" + re.sub(r"[^\w.+=-]+", "_", recipe) for recipe in names}


def refuse_collisions(folder: Path, pictures: Mapping[str, Picture], recipes: Sequence[str]) -> None:
    """Refuse results that would replace each other, or a picture, before anything is computed.

    Args:
        folder: where the results go.
        pictures: by the names of their results.
        recipes: their names.

    Raises:
        UserError: which two things would be one file.
    """
    photographs = [picture for picture in pictures.values() if isinstance(picture, Path)]
    for picture in photographs:
        # by os.path: resolve() fails on a link to itself, which is skipped like any file that is no picture
        if Path(os.path.realpath(folder)) in Path(os.path.realpath(picture)).parents:
            raise UserError(
                f"{picture} lies in {folder}, where the results go and could replace it: name another --output."
            )
    sources = {identity: picture for picture in photographs if (identity := _identity(picture))}
    owners = {SHARES: "the table of shares"}
    for file, owner in _files(pictures, recipes):
        identity = _identity(folder / file)
        replaced = None if identity is None else sources.get(identity)
        if replaced is not None:
            raise UserError(f"{folder / file}, a result of {owner}, is the picture {replaced}: name another --output.")
        for path in (file, *map(str, PurePosixPath(file).parents)):  # a file cannot be where a folder is
            other = owners.get(path.casefold())
            if other is not None:
                raise UserError(
                    f"{other} and {owner} would both be written to {folder / path}: rename one, or segment them one after "
                    f"the other, each with its own --output."
                )
        owners[file.casefold()] = owner


def _files(pictures: Mapping[str, Picture], recipes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """All files of results, and whose they are; those in folders last, so that they meet a file that has a folder's name."""
    files = []
    for name, picture in pictures.items():
        owner = str(picture) if isinstance(picture, Path) else name
        for recipe, stem in stems(name, recipes).items():
            files += [(stem + end, f"{owner} [{recipe}]") for end in ENDS]
        if len(recipes) > 1:
            files.append((name + COMPARISON, f"the comparison of {owner}"))
    return iter(sorted(files, key=lambda file: file[0].count("/")))


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is, also under another name; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


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
