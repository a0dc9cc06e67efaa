"""Pictures with labels: the benchmarks of the paper, a folder of one's own, and the scenes drawn on demand."""

from os import PathLike
from pathlib import Path
from typing import Any, Literal

from clearclip.datasets.ade20k import ADE20K
from clearclip.datasets.base import LabelledPictures, Sample
from clearclip.datasets.benchmark import Benchmark
from clearclip.datasets.cityscapes import Cityscapes
from clearclip.datasets.coco import COCOObject, COCOStuff
from clearclip.datasets.context import Context59, Context60
from clearclip.datasets.folder import FolderDataset
from clearclip.datasets.voc import VOC20, VOC21
from clearclip.errors import UserError, closest

__all__ = ["BENCHMARKS", "DATASETS", "Benchmark", "FolderDataset", "LabelledPictures", "Sample", "load", "parse"]

BENCHMARKS: dict[str, type[Benchmark]] = {
    kind.name: kind for kind in (VOC20, VOC21, Context59, Context60, COCOObject, COCOStuff, Cityscapes, ADE20K)
}


# What becomes of stuff: a class of its own, class 0, or ignored.
DRAWN: dict[str, Literal["named", "background", "ignored"]] = {
    "scenes": "named",
    "scenes_background": "background",
    "scenes_things": "ignored",
}
DATASETS = (*BENCHMARKS, "folder", *DRAWN)


def load(
    name: str, root: str | PathLike[str] | None = None, names: str = "clearclip", split: str = "val", **options: Any
) -> LabelledPictures:
    """A data set by its name, one of `DATASETS`, from the folder that it lies in; scenes are drawn and have none.

    ``names`` is "standard" or "clearclip", ``split`` "val" or "train"; a folder has its own names and no splits.
    ``options`` go to the data set: ``partial`` to those on disk, ``download`` to VOC, ``count``, ``size``, … to scenes.

    Raises `UserError` for an unknown name, split or list of names, and for a missing or half-unpacked folder.

    >>> scenes = load("scenes", count=2)
    >>> len(scenes), scenes[1].label.shape
    (2, (64, 64))
    """
    if name not in DATASETS:
        raise UserError(f"there is no data set {name!r}; the closest are {closest(name, list(DATASETS))}.")
    if name in DRAWN:
        from clearclip.datasets.scenes import Scenes  # imports torch

        options.setdefault("stuff", DRAWN[name])
        try:
            return Scenes("validation" if split == "val" else split, **options)  # type: ignore[arg-type]
        except ValueError as error:
            raise UserError(f"scenes: {error}") from error
    if root is None:
        raise UserError(f"{name} lies on disk: name its folder.")
    return FolderDataset(root, **options) if name == "folder" else BENCHMARKS[name](root, split, names, **options)


def parse(text: str, names: str = "clearclip", split: str | None = None, partial: bool = False) -> LabelledPictures:
    """A data set as it is written on a command line: "voc20:data/voc", "scenes", or a folder of one's own.

    Without a folder a benchmark is looked for in data/, by its family: data/voc, data/context, data/coco, …. The split is
    by default val for benchmarks and test for scenes.

    Raises `UserError` as `load` does.

    >>> parse("scenes").classes[:2]
    ['apple', 'ball']
    """
    name, colon, root = text.partition(":")
    if name in DRAWN:
        return load(name, split=split or "test")
    if name not in DATASETS and Path(text).is_dir():
        return FolderDataset(text, partial)
    if name == "folder":
        return load(name, root or None, partial=partial)
    if not colon and name in BENCHMARKS:
        root = f"data/{BENCHMARKS[name].class_file.partition('_')[0]}"
    try:
        return load(name, root or None, names, split or "val", partial=partial)
    except UserError as error:
        if colon or name not in BENCHMARKS:
            raise
        raise UserError(f"{error}\nIf it lies elsewhere, write {name}:FOLDER.") from error
