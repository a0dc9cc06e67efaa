"""Data sets by their names."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from clearclip.datasets.ade20k import ADE20K
from clearclip.datasets.base import Facts, LabelledPictures
from clearclip.datasets.benchmark import Benchmark
from clearclip.datasets.camvid import CamVid
from clearclip.datasets.cityscapes import Cityscapes
from clearclip.datasets.coco import COCOObject, COCOStuff
from clearclip.datasets.context import Context59, Context60
from clearclip.datasets.drawn.scenes import VARIANTS, Scenes
from clearclip.datasets.folder import FolderDataset
from clearclip.datasets.voc import VOC20, VOC21
from clearclip.errors import UserError, closest

BENCHMARKS: dict[str, type[Benchmark]] = {
    kind.name: kind for kind in (VOC20, VOC21, Context59, Context60, COCOObject, COCOStuff, Cityscapes, ADE20K, CamVid)
}
DRAWN = {
    "scenes": Facts("scenes"),
    "scenes_background": Facts("scenes with background", background=True),  # all stuff is class 0
    "scenes_things": Facts("scenes, things only"),  # stuff is ignored
}


def known() -> list[str]:
    """The names that `load` understands."""
    return [*BENCHMARKS, "folder", *DRAWN]


def facts(name: str) -> Facts:
    """What is known about a data set by its name: its title, whether it has a background, its threshold, ….

    Args:
        name: a benchmark's, that of drawn scenes, or any other, of which only the name is known.

    >>> facts("coco_object").title, facts("coco_object").background, facts("coco_object").threshold
    ('COCO-Object', True, 0.4)
    >>> facts("mine")
    Facts(title='mine', background=False, threshold=0.0, clip_threshold=None, half_windows=False, printed='')
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name].facts
    return DRAWN.get(name, Facts(name))


def load(
    name: str | PathLike[str],
    root: str | PathLike[str] | None = None,
    names: str = "clearclip",
    split: str | None = None,
    **options: Any,
) -> LabelledPictures:
    """A data set by its name, from the folder that it lies in.

    Args:
        name: one of `known`, or a folder of one's own.
        root: its folder; scenes are drawn and have none.
        names: "clearclip" for the class names of ClearCLIP's published run, "standard" for the data set's own.
        split: "val" (the default) or "train"; a folder has no splits, and scenes have "test" too.
        options: go to the data set: ``partial`` to those on disk, ``download`` to benchmarks, ``count``, ``size``, … to
            scenes.

    Returns:
        A sequence of `Sample` with ``classes``, as `LabelledPictures` describes it.

    Raises:
        UserError: for an unknown name, split or list of names, and for a missing or half-unpacked folder.

    >>> scenes = load("scenes", count=2)
    >>> len(scenes), scenes[1].label.shape
    (2, (64, 64))
    """
    if name == "":
        raise UserError(f"a data set without a name: write one of {', '.join(known())}, or a folder of your own.")
    if options.get("download") and name not in BENCHMARKS:
        raise UserError(f"{name} cannot be downloaded; only benchmarks are, and of them VOC.")
    if name not in known() and Path(name).is_dir():
        return own_folder(Path(name), split, **options)
    name = str(name)
    if name not in known():
        if len(Path(name).parts) > 1:
            raise UserError(f"{name}: no such folder.")
        raise UserError(f"there is no data set {name!r}; the closest are {closest(name, known())}.")
    if name in DRAWN:
        if root is not None:
            raise UserError(f"{name} are drawn and lie in no folder: leave out {str(root)!r}.")
        options.setdefault("stuff", next(stuff for stuff, (known_as, _) in VARIANTS.items() if known_as == name))
        try:
            return Scenes("validation" if split in (None, "val") else split, **options)  # type: ignore[arg-type]
        except ValueError as error:
            raise UserError(f"scenes: {error}") from error
    if root is None:
        raise UserError(f"{name} lies on disk: name its folder.")
    if name == "folder":
        return own_folder(Path(root), split, **options)
    return BENCHMARKS[name](root, split or "val", names, **options)


def own_folder(root: Path, split: str | None = None, partial: bool = False) -> FolderDataset:
    """A folder of one's own.

    Raises:
        UserError: as `FolderDataset` does; for the folder of a benchmark with how that is written; for any split.
    """
    try:
        dataset = FolderDataset(root, partial)
    except UserError as error:
        names = [name for name in BENCHMARKS if _holds(name, root)]
        if not names:
            raise
        written = " or ".join(f"{name}:{root}" for name in names)
        raise UserError(f"{root} looks like the folder of a benchmark: write {written}.") from error
    if split is not None:
        raise UserError(f"{root} is a folder of your own, which has no splits: leave out the split {split!r}.")
    return dataset


def _holds(name: str, root: Path) -> bool:
    """Whether a folder has the tree of a benchmark, complete or not."""
    for split in BENCHMARKS[name].counts:
        try:
            BENCHMARKS[name](root, split, partial=True)
        except (UserError, OSError):
            continue
        return True
    return False


def parse(text: str, names: str = "clearclip", split: str | None = None, partial: bool = False) -> LabelledPictures:
    """A data set as it is written on a command line: "voc20:data/voc", "scenes", or a folder of one's own.

    Args:
        text: without a folder a benchmark is looked for in data/, by its family: data/voc, data/context, data/coco, ….
        names: as in `load`.
        split: by default val for benchmarks and test for scenes.
        partial: whether to use the complete pairs of a half-unpacked folder.

    Raises:
        UserError: as `load` does.

    >>> parse("scenes").classes[:2]
    ['apple', 'ball']
    """
    name, colon, root = text.partition(":")
    if colon and not root and name in known():
        raise UserError(f"data set {text!r}: there is no folder behind the colon.")
    if name in DRAWN:
        return load(name, root or None, split=split or "test")
    if name not in known() and (not text or Path(text).is_dir()):
        return load(text, split=split, partial=partial)
    if not colon and name in BENCHMARKS:
        root = f"data/{BENCHMARKS[name].folder}"
    try:
        return load(name, root or None, names, split, partial=partial)
    except UserError as error:
        if colon or name not in BENCHMARKS:
            raise
        raise UserError(f"{error}\nIf it lies elsewhere, write {name}:FOLDER.") from error
