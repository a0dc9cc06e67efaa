"""Draw the paper's figures and tables, and compute what they need.

    python -m figures                                          the shipped models on drawn scenes, offline
    python -m figures fig4 table1 --data results/figures/clip_tiny      only these, from finished Datasets
    python -m figures --model clip_vitb16 --against dino_vitb16 --dataset voc20:data/voc coco_stuff:data/coco

Runs that are finished are not computed again, interrupted ones continue. Figures come as PDF and PNG, tables as CSV, Markdown
and LaTeX, and index.html shows them all with their origin.
"""

import runpy
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from unittest.mock import patch

import tyro

from clearclip.cli import options, run
from clearclip.errors import UserError
from figures.catalogue import DEMO, RUNS, Choice, Entry, Run, entries, state

if TYPE_CHECKING:
    import xarray as xr

    from figures.index import Drawn


@dataclass(frozen=True)
class FigureOptions:
    """Which figures and tables, from which data, and where they go."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """fig1 … fig11 (fig4 stands for all its parts), fig1_radar, table1 … table5, layers, prototypes, tokens; all by default."""
    data: Path | None = None
    """Draw from the finished Datasets in this folder, or from this one .nc file, without running any model."""
    offline_demo: bool = False
    """The shipped models on photographs and drawn scenes, which is also what happens when no model is named."""
    model: tuple[str, ...] = ()
    """One or several CLIPs, such as clip_vitb16 clip_vitl14; label maps are made with the first."""
    against: tuple[str, ...] = ()
    """Models to compare the statistics with (Fig. 4), such as dino_vitb16; they need no text tower."""
    checkpoint: tuple[Path, ...] = ()
    """Local weights instead of the hub's, one file for each model and then each against, - for none."""
    random: bool = False
    """Random weights, for a trial without any; every figure says so."""
    dataset: tuple[str, ...] = ()
    """Benchmarks with their folders, such as voc20:data/voc coco_stuff:data/coco, or a folder of your own."""
    images: tuple[str, ...] = ()
    """Pictures for the statistics of Figs. 4 and 9; by default those of the first benchmark, or else photographs."""
    limit: int | None = None
    """Only the first so many pictures of each data set."""
    device: str | None = None
    """cpu, cuda, mps, …; by default the accelerator if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32, or autocast to bf16 or fp16."""
    batch_size: int = 8
    """Pictures or windows in one forward pass."""
    results: Path | None = None
    """The folder of the Datasets that are computed; by default results/figures/<model>."""
    output: Path = Path("figures/output")
    """The folder for figures, tables and index.html."""
    plan: bool = False
    """Only say what would be computed, and how long it may take."""


def main() -> None:
    """The command `python -m figures`."""
    chosen = options(FigureOptions, __doc__ or "")
    wanted = entries(chosen.names)
    if chosen.data is not None:
        if chosen.plan or chosen.model or chosen.against or chosen.offline_demo:
            raise UserError(
                "--data draws what is finished; it goes without --plan, --model, --against and --offline-demo."
            )
        left_out = draw(wanted, chosen.data, chosen.output, strict=bool(chosen.names))
        _say_left_out(left_out)
        return
    choice = choice_of(chosen)
    folder = chosen.results or Path("results/figures", choice.everyone[0].replace("/", "_").replace(":", "_"))
    steps = plan(wanted, choice, folder)
    print_plan(steps, choice)
    if chosen.plan:
        return
    failed = [step.run.name for step in steps if step.todo and not compute(step)]
    without = {step.run.name: step.reason for step in steps if step.reason} | dict.fromkeys(
        failed, "its run failed, see above"
    )
    _say_left_out(draw(wanted, folder, chosen.output, strict=False, without=without))
    if failed:
        raise UserError(f"{', '.join(failed)} failed; the same command tries again and keeps what is finished.")


def choice_of(chosen: FigureOptions) -> Choice:
    """The models, data sets and pictures of a command line; the shipped ones where no model is named."""
    if chosen.offline_demo and (chosen.model or chosen.against or chosen.dataset):
        raise UserError("--offline-demo has its own models and data sets: leave out --model, --against and --dataset.")
    if chosen.limit is not None and chosen.limit < 1:
        raise UserError(f"limit {chosen.limit}: at least one picture is needed.")
    if not chosen.model and not chosen.against:
        if chosen.checkpoint or chosen.dataset:
            raise UserError("--checkpoint and --dataset need a model: name it with --model.")
        demo = replace(
            DEMO, random=chosen.random, images=chosen.images or DEMO.images, limit=chosen.limit or DEMO.limit
        )
        return replace(demo, device=chosen.device, precision=chosen.precision, batch_size=chosen.batch_size)
    everyone = (*chosen.model, *chosen.against)
    if len(set(everyone)) != len(everyone):
        raise UserError("a model is named twice.")
    if chosen.checkpoint and len(chosen.checkpoint) != len(everyone):
        raise UserError(
            f"{len(chosen.checkpoint)} checkpoints for {len(everyone)} models: name one for each, in order."
        )
    return Choice(
        chosen.model,
        chosen.against,
        chosen.dataset,
        chosen.images,
        chosen.checkpoint,
        chosen.random,
        chosen.limit,
        chosen.device,
        chosen.precision,
        chosen.batch_size,
    )


# the plan ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One run of a plan: its command, whether it is finished, or why it cannot be computed."""

    run: Run
    words: tuple[str, ...]
    path: Path
    state: str
    reason: str = ""

    @property
    def todo(self) -> bool:
        """Whether it is computed now."""
        return not self.reason and self.state != "finished"


def plan(wanted: Sequence[Entry], choice: Choice, folder: Path) -> list[Step]:
    """The runs that some figures and tables need, in the catalogue's order."""
    needed = {need for entry in wanted for need in entry.needs}
    steps = []
    for name, one in RUNS.items():
        if name in needed:
            path = folder / f"{name}.nc"
            reason = one.missing(choice)
            words = () if reason else tuple(one.words(choice, path))
            steps.append(Step(one, words, path, "" if reason else state(words, path), reason))
    return steps


def print_plan(steps: Sequence[Step], choice: Choice) -> None:
    """Say which runs are finished, which will be computed with how many images, and for how long."""
    from figures import estimate

    todo = [step for step in steps if step.todo]
    print(f"models: {', '.join(choice.everyone)} · data sets: {', '.join(choice.dataset) or 'none'}")
    needed = estimate.Estimate(choice) if todo else None
    total = 0.0
    for step in steps:
        if step.reason:
            print(f"  {step.run.name:12} left out: it {step.reason}")
        elif not step.todo:
            print(f"  {step.run.name:12} finished, {step.path}")
        elif needed is not None:
            images, seconds = needed.of(step.run)
            total += seconds
            again = " (again: what is there was computed from other facts)" if step.state == "other facts" else ""
            print(f"  {step.run.name:12} {images:6,} images, about {estimate.words(seconds)}{again}")
            print(f"  {'':12} python -m {' '.join(step.words)}")
    if todo:
        print(
            f"to compute: {len(todo)} runs, about {estimate.words(total)} in all, without downloads and text embeddings",
            flush=True,
        )


def compute(step: Step) -> bool:
    """Run one analysis command in this process, as `python -m` would; returns whether its Dataset is there."""
    print(f"\n── {step.run.name}: python -m {' '.join(step.words)}", flush=True)
    began = time.monotonic()
    with patch.object(sys, "argv", ["", *step.words[1:]]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*found in sys.modules.*", RuntimeWarning)
        try:
            runpy.run_module(step.run.command, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code == 130:
                raise
        except Exception:  # one run that fails leaves the others their turn
            traceback.print_exc()
    print(f"── {step.run.name}: {time.monotonic() - began:.0f} s", flush=True)
    return state(step.words, step.path) == "finished"


# drawing -------------------------------------------------------------------------------------------------------------


def draw(
    wanted: Sequence[Entry], data: Path, output: Path, strict: bool, without: dict[str, str] | None = None
) -> list[str]:
    """Draw figures and tables from the Datasets in a folder (or one file), write them and the index page.

    Returns what was left out and why; with `strict` that is a `UserError` instead.
    """
    from figures.index import page

    output.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        raise UserError(f"{data}: no such folder of Datasets. python -m figures computes them.")
    cache: dict[str, xr.Dataset] = {}
    drawn: list[Drawn] = []
    left_out = []
    for entry in wanted:
        try:
            found = {need: _dataset(need, data, cache, without or {}) for need in entry.needs}
            if data.is_file() and len(found) > 1:
                raise UserError(f"{entry.name} reads {len(found)} Datasets: name their folder with --data.")
            drawn.append(_draw_one(entry, found, output))
        except UserError as error:
            if strict:
                raise
            left_out.append(f"{entry.name}: {error}")
        except Exception as error:  # one figure that fails leaves the others their turn, after hours of computing
            if strict:
                raise
            traceback.print_exc()
            left_out.append(f"{entry.name}: failed, {error}")
    index = output / "index.html"
    index.write_text(page(drawn, left_out, _command()), encoding="utf-8")
    print(f"wrote {len(drawn)} figures and tables and {index}")
    return left_out


def _dataset(need: str, data: Path, cache: "dict[str, xr.Dataset]", without: dict[str, str]) -> "xr.Dataset":
    """The Dataset of a run, read once."""
    from clearclip.runs import results

    if need in without:
        raise UserError(f"{need}: {without[need]}")
    path = data if data.is_file() else data / f"{need}.nc"
    if not path.is_file():
        words = " ".join(RUNS[need].words(DEMO, path))
        raise UserError(f"{path} is missing. It is written by, for the shipped models, python -m {words}")
    if need not in cache:
        cache[need] = results.read(path)
    return cache[need]


def _draw_one(entry: Entry, data: "dict[str, xr.Dataset]", output: Path) -> "Drawn":
    """One figure as PDF and PNG, or one table as CSV, Markdown and LaTeX."""
    import matplotlib.pyplot as plt

    from clearclip.segmentation.style import style
    from figures.index import Drawn

    draw_it = entry.module.table if entry.kind == "table" else entry.module.figure
    try:
        shown = draw_it(*data.values())
    except (KeyError, AttributeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{entry.name} cannot be drawn from {' and '.join(data)}: {error}") from error
    if entry.kind == "table":
        from figures import tables

        written = tables.write(shown, output / entry.name, entry.caption)
        return Drawn(entry, data, table=shown, files=[path.name for path in written])
    files = [output / f"{entry.name}.pdf", output / f"{entry.name}.png"]
    with style():
        shown.savefig(files[0])
        shown.set_layout_engine("none")  # the places are found; finding them takes longer than drawing
        shown.savefig(files[1])
    plt.close(shown)
    return Drawn(entry, data, png=files[1].read_bytes(), files=[file.name for file in files])


def _command() -> str:
    from clearclip.runs import results

    return results.provenance()["command"].replace("figures.__main__", "figures")


def _say_left_out(left_out: Sequence[str]) -> None:
    for reason in left_out:
        print(f"left out: {reason}")


if __name__ == "__main__":
    run(main)
