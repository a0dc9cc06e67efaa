"""Verify a folder with a data set before anything is evaluated on it.

    python -m clearclip.datasets check voc20 ROOT
    python -m clearclip.datasets list

check reads every picture and label, counts them against the published number, lists what is missing or broken (exit
code 1) and draws a sheet of samples. Data sets: voc20, voc21, context59, context60, coco_object, coco_stuff,
cityscapes, ade20k, folder (images/, labels/, classes.txt) and scenes (drawn, no ROOT).
"""

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from clearclip.cli import options, run
from clearclip.errors import UserError

if TYPE_CHECKING:
    from clearclip.datasets import LabelledPictures

SAMPLES = 6  # on the sheet
FAULTS = 20  # printed


@dataclass(frozen=True)
class Check:
    """Read a data set, name what is missing or broken, and draw a sheet of samples."""

    dataset: tyro.conf.Positional[str]
    """Its name, such as voc20; `list` shows all."""
    root: tyro.conf.Positional[Path | None] = None
    """The folder that it lies in."""
    split: str = "val"
    """val or train."""
    names: Literal["clearclip", "standard"] = "clearclip"
    """Class names of ClearCLIP's published run, or the data set's own."""
    limit: int | None = None
    """Read only so many pairs, evenly spread."""
    download: bool = False
    """Fetch VOC 2012 into ROOT first (2 GB)."""
    sheet: Path | None = None
    """Where the samples are drawn (.png, .pdf, .svg); by default results/datasets/<dataset>_<split>.png."""


@dataclass(frozen=True)
class List:
    """Show which data sets there are."""


def main() -> None:
    """The command `python -m clearclip.datasets`."""
    chosen = options(Check | List, __doc__ or "")  # type: ignore[arg-type]
    if isinstance(chosen, List):
        show_list()
    else:
        show_check(chosen)


def show_list() -> None:
    """Print every data set with its classes and the published number of its pictures."""
    from clearclip.datasets import BENCHMARKS
    from clearclip.datasets.benchmark import class_names

    for name, kind in BENCHMARKS.items():
        classes = len(class_names(kind.class_file)) + kind.background
        print(f"{name:12} {classes:3} classes, {' or '.join(map(str, kind.counts['val']))} pictures in val")
    print(f"{'folder':12} images/, labels/, classes.txt\n{'scenes':12} drawn on demand, exact labels, no folder")
    print(f"{'scenes_background':12} the same with all stuff as background")
    print(f"{'scenes_things':12} the same with all stuff ignored")


def show_check(chosen: Check) -> None:
    """Check one data set, print the report, draw the sheet; exits with code 1 if something is wrong."""
    from clearclip.datasets.check import check
    from clearclip.style import check_suffix

    if chosen.limit is not None and chosen.limit < 1:
        raise UserError(f"limit {chosen.limit}: at least one pair is needed.")
    if chosen.sheet is not None:
        check_suffix(chosen.sheet)
    dataset = opened(chosen)
    report = check(dataset, chosen.limit, progress=True)
    print("\n".join([f"{dataset.name}: {len(dataset)} pairs of picture and label", *report.lines()]))
    if report.count:
        path = chosen.sheet or Path("results/datasets", f"{dataset.name}_{chosen.split}.png")
        draw_sheet(dataset, path)
        print(f"wrote {path}")
    for fault in report.faults[:FAULTS]:
        print(f"fault: {fault}")
    if report.faults:
        shown = f", the first {FAULTS} shown" if len(report.faults) > FAULTS else ""
        print(f"faults: {len(report.faults)}{shown}")
        sys.exit(1)
    print("no faults")


def opened(chosen: Check) -> "LabelledPictures":
    """The data set with its complete pairs, downloaded first if that is wanted."""
    from clearclip.datasets import DRAWN, load

    extra: dict[str, bool] = {} if chosen.dataset in DRAWN else {"partial": True}
    if chosen.download:
        if chosen.dataset not in ("voc20", "voc21"):
            raise UserError(
                f"{chosen.dataset} cannot be downloaded from here, only voc20 and voc21; docs/guide/benchmarks.md says where the "
                "others are."
            )
        extra["download"] = True
    return load(chosen.dataset, chosen.root, chosen.names, chosen.split, **extra)


def draw_sheet(dataset: "LabelledPictures", path: Path) -> None:
    """Draw a few samples, evenly spread over those that can be read."""
    from clearclip.datasets.check import spread
    from clearclip.datasets.sheet import sheet
    from clearclip.pictures import BadImage
    from clearclip.style import save

    samples = []
    for index in spread(len(dataset), SAMPLES):
        with suppress(BadImage):  # the report has named it
            samples.append(dataset[index])
    if samples:
        save(
            sheet(
                samples, dataset.classes, f"{dataset.name}: {len(samples)} of {len(dataset)}; ignored pixels are white"
            ),
            path,
        )


if __name__ == "__main__":
    run(main)
