"""Verify a folder with a data set before anything is evaluated on it.

    python -m clearclip.datasets check voc20 ROOT
    python -m clearclip.datasets list

check reads every picture and label, counts them against the published number, lists what is missing or broken (exit
code 1) and draws a sheet of samples. list names the data sets: the benchmarks, folder (images/, labels/, classes.txt)
and scenes (drawn, no ROOT).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from clearclip.cli import parse, run
from clearclip.errors import UserError

SAMPLES = 6  # on the sheet
FAULTS = 20  # printed


@dataclass(frozen=True)
class Check:
    """Read a data set, name what is missing or broken, and draw a sheet of samples."""

    dataset: tyro.conf.Positional[str]
    """Its name, such as voc20; `list` shows all."""
    root: tyro.conf.Positional[Path | None] = None
    """The folder that it lies in."""
    split: str | None = None
    """val or train, by default val; a folder of your own has none."""
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


Options = Check | List


def main() -> int:
    """The command `python -m clearclip.datasets`; its exit code."""
    command: Check | List = parse(Options, __doc__)  # type: ignore[arg-type]
    return check(command) if isinstance(command, Check) else show_list()


def show_list() -> int:
    """Print every data set with its classes and the published number of its pictures."""
    from clearclip.datasets import BENCHMARKS

    for name, kind in BENCHMARKS.items():
        counts = " or ".join(map(str, kind.counts["val"]))
        print(f"{name:18}{len(kind.class_names()):3} classes, {counts} pictures in val")
    print(f"{'folder':18}images/, labels/, classes.txt")
    print(f"{'scenes':18}drawn on demand, exact labels, no folder")
    print(f"{'scenes_background':18}the same with all stuff as background")
    print(f"{'scenes_things':18}the same with all stuff ignored")
    return 0


def check(command: Check) -> int:
    """Check one data set, print the report, draw the sheet; 1 if something is wrong, otherwise 0."""
    from clearclip.datasets import DRAWN, integrity, load
    from clearclip.segmentation.samples import sheet
    from clearclip.segmentation.style import refuse_unwritable, save

    if command.limit is not None and command.limit < 1:
        raise UserError(f"limit {command.limit}: at least one pair is needed.")
    how = {} if command.dataset in DRAWN else {"partial": True}
    how |= {"download": True} if command.download else {}
    dataset = load(command.dataset, command.root, command.names, command.split, **how)
    sheet_file = command.sheet or Path("results/datasets", f"{dataset.name}_{command.split or 'val'}.png")
    refuse_unwritable(sheet_file)
    report = integrity.check(dataset, command.limit, progress=True)
    print("\n".join([f"{dataset.name}: {len(dataset)} pairs of picture and label", *report.lines()]))
    samples = integrity.examples(dataset, SAMPLES)
    if samples:
        title = f"{dataset.name}: {len(samples)} of {len(dataset)}; ignored pixels are white"
        save(sheet(samples, dataset.classes, title), sheet_file)
        print(f"wrote {sheet_file}")
    for fault in report.faults[:FAULTS]:
        print(f"fault: {fault}")
    if not report.faults:
        print("no faults")
        return 0
    print(f"faults: {len(report.faults)}" + (f", the first {FAULTS} shown" if len(report.faults) > FAULTS else ""))
    return 1


if __name__ == "__main__":
    run(main)
