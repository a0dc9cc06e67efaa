"""Draw figures and tables from Datasets, write them, and keep the index page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import xarray as xr

from clearclip import outputs
from clearclip.boundary import report
from clearclip.cli import Result
from clearclip.errors import UserError
from clearclip.segmentation import style
from figures import tables
from figures.catalogue import Entry
from figures.index import Drawn, page
from figures.runs import DEMO, RUNS

INDEX = "index.html"


class Drawings:
    """The figures and tables that are drawn one after another, as soon as their Datasets are there.

    Args:
        entries: what is wanted, in the order of the page.
        data: the folder of the Datasets, or one .nc file.
        output: the folder for figures, tables and index.html.
        strict: raise `UserError` for what cannot be drawn, instead of leaving it out with its reason.

    Raises: `UserError` if nothing can be written into the folder.
    """

    def __init__(self, entries: Sequence[Entry], data: Path, output: Path, command: str, strict: bool = False) -> None:
        self.entries, self.data, self.output, self.command, self.strict = entries, data, output, command, strict
        self.done: dict[str, Drawn] = {}
        self.left_out: dict[str, str] = {}
        self._datasets: dict[str, xr.Dataset] = {}
        outputs.refuse_unwritable(output / INDEX)

    def draw(self, entry: Entry, without: dict[str, str] | None = None) -> None:
        """Draw one of them, or keep why it cannot be drawn; `without` are runs that failed, and why."""
        try:
            if self.data.is_file() and len(entry.needs) > 1:
                raise UserError(f"{entry.name} reads {len(entry.needs)} Datasets: name their folder with --data.")
            datasets = {need: self._dataset(need, without or {}) for need in entry.needs}
            self.done[entry.name] = self._write(entry, datasets)
        except UserError as error:
            if self.strict:
                raise
            self.left_out[entry.name] = f"{entry.name}: {error}"
        except Exception as error:  # one figure that fails leaves the others their turn, after hours of computing
            if self.strict:
                raise
            report(error)
            self.left_out[entry.name] = f"{entry.name}: failed, {error}"

    def finish(self) -> None:
        """Write the index page, and say what was drawn and what was left out."""
        done = [self.done[entry.name] for entry in self.entries if entry.name in self.done]
        left_out = [self.left_out[entry.name] for entry in self.entries if entry.name in self.left_out]
        index = self.output / INDEX
        outputs.write(index, page(done, left_out, self.command))
        print(f"wrote {len(done)} figures and tables and {index}")
        for reason in left_out:
            print(f"left out: {reason}")

    def _dataset(self, need: str, without: dict[str, str]) -> xr.Dataset:
        """The Dataset of a run, read once."""
        if need in without:
            raise UserError(f"{need}: {without[need]}")
        path = self.data if self.data.is_file() else self.data / f"{need}.nc"
        if not path.is_file():
            run = RUNS[need]
            command = run.command(run.options(DEMO, Result(path)))
            raise UserError(f"{path} is missing. It is written by, for the shipped models, {command}")
        if need not in self._datasets:
            self._datasets[need] = RUNS[need].read(path)
        return self._datasets[need]

    def _write(self, entry: Entry, datasets: dict[str, xr.Dataset]) -> Drawn:
        """One figure as PDF and PNG, or one table as CSV, Markdown and LaTeX."""
        try:
            drawing = entry.draw(*datasets.values())
        except (KeyError, AttributeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{entry.name} cannot be drawn from {' and '.join(datasets)}: {error}") from error
        if entry.is_table:
            written = tables.write(drawing, self.output / entry.name, entry.caption)
            return Drawn(entry, datasets, table=drawing, files=[path.name for path in written])
        files = [self.output / f"{entry.name}.pdf", self.output / f"{entry.name}.png"]
        style.write(drawing, files[0])
        drawing.set_layout_engine("none")  # the places are found; finding them takes longer than drawing
        style.write(drawing, files[1])
        plt.close(drawing)
        return Drawn(entry, datasets, png=files[1].read_bytes(), files=[file.name for file in files])
