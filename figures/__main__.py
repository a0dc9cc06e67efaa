"""Draw the paper's figures and tables, and compute what they need.

    python -m figures                                                 # the shipped models on drawn scenes, offline
    python -m figures fig4 table1 --data results/figures/clip_tiny    # only these, from finished Datasets
    python -m figures --model clip_vitb16 --against dino_vitb16 --dataset voc20:data/voc coco_stuff:data/coco

Runs that are finished are not computed again, interrupted ones continue. Every figure is drawn as soon as its data are there.
Figures come as PDF and PNG, tables as CSV, Markdown and LaTeX, and index.html shows them all with their origin.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from clearclip import cli, outputs
from clearclip.errors import UserError
from clearclip.textfiles import readable

if TYPE_CHECKING:
    from figures.runs import Choice


@dataclass(frozen=True)
class Options:
    """Which figures and tables, from which data, and where they go."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """fig1 … fig11 (fig4 stands for all its parts), fig1_radar, table1 … table5, layers, prototypes, tokens; all by default."""
    data: Path | None = None
    """Draw from the finished Datasets in this folder, or from this one .nc file, without running any model."""
    offline_demo: bool = False
    """The shipped models on photographs and drawn scenes, which is also what happens when no model is named."""
    models: cli.Models = cli.Models()
    against: tuple[str, ...] = ()
    """Models to compare the statistics with (Fig. 4), such as dino_vitb16; they need no text tower. Their checkpoints follow
    those of the models."""
    dataset: tuple[str, ...] = ()
    """Benchmarks with their folders, such as voc20:data/voc coco_stuff:data/coco, or a folder of your own."""
    images: tuple[str, ...] = ()
    """Pictures for the statistics of Figs. 4 and 9; by default those of the first benchmark, or else photographs."""
    running: cli.Running = cli.Running()
    results: Path | None = None
    """The folder of the Datasets that are computed; by default results/figures/<model>."""
    output: Path = Path("figures/output")
    """The folder for figures, tables and index.html."""
    restart: bool = False
    """Set aside what interrupted runs have left beside their Datasets, and start them anew."""
    plan: bool = False
    """Only say what would be computed, and how long it may take."""


def main() -> None:
    """The command `python -m figures`."""
    options = cli.parse(Options, __doc__)
    from clearclip.models.named import named
    from figures.catalogue import entries
    from figures.drawing import Drawings
    from figures.plan import compute, plan, print_plan

    selected = entries(options.names)
    command = readable(shlex.join(["python", "-m", "figures", *sys.argv[1:]]))
    if options.data is not None:
        computing = (
            options.plan,
            options.against,
            options.offline_demo,
            options.dataset,
            options.images,
            options.results,
        )
        if any(computing) or options.models != cli.Models() or options.running != cli.Running():
            raise UserError(
                "--data draws what is finished; beside it go only the names of figures and --output: leave out --model and "
                "whatever else says what to compute."
            )
        if not options.data.exists():
            raise UserError(f"{options.data}: no such folder of Datasets. python -m figures computes them.")
        drawings = Drawings(selected, options.data, options.output, command, strict=bool(options.names))
        for entry in selected:
            drawings.draw(entry)
        drawings.finish()
        return
    choice = choice_of(options)
    label = named(choice.everyone[0])[0].label.replace("/", "_").replace(":", "_")
    folder = options.results or Path("results/figures", label)
    steps = plan(selected, choice, folder, options.restart)
    if options.plan:
        print_plan(steps, choice)
        return
    outputs.refuse_unwritable(*(step.path for step in steps if step.todo))
    drawings = Drawings(selected, folder, options.output, command)
    print_plan(steps, choice)
    waiting, finished, without, failed = list(selected), set(), {}, []
    for step in steps:
        if step.reason:
            without[step.run.name] = step.reason
        elif step.todo and not compute(step):
            failed.append(step.run.name)
            without[step.run.name] = "its run failed, see above"
        finished.add(step.run.name)
        for entry in [entry for entry in waiting if finished.issuperset(entry.needs)]:
            waiting.remove(entry)
            drawings.draw(entry, without)
    drawings.finish()
    if failed:
        raise UserError(f"{', '.join(failed)} failed; the same command tries again and keeps what is finished.")


def choice_of(options: Options) -> Choice:
    """The models, data sets and pictures of a command line; the shipped ones where no model is named."""
    from clearclip.models.named import all_named
    from figures.runs import DEMO, Choice

    models, running = options.models, options.running
    if options.offline_demo and (models.model or options.against or options.dataset):
        raise UserError("--offline-demo has its own models and data sets: leave out --model, --against and --dataset.")
    if running.limit is not None and running.limit < 1:
        raise UserError(f"limit {running.limit}: at least one picture is needed.")
    if not models.model and not options.against:
        if models.checkpoint or options.dataset:
            raise UserError("--checkpoint and --dataset need a model: name it with --model.")
        running = replace(running, limit=running.limit or DEMO.running.limit)
        return replace(DEMO, random=models.random, images=options.images or DEMO.images, running=running)
    everyone = (*models.model, *options.against)
    all_named(everyone, models.checkpoint)  # refuses a model that is named twice, and checkpoints that do not fit
    return Choice(
        models.model, options.against, options.dataset, options.images, models.checkpoint, models.random, running
    )


if __name__ == "__main__":
    cli.run(main)
