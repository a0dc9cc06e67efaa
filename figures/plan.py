"""What has to be computed for some figures and tables, how long it may take, and computing it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearclip.boundary import report
from clearclip.cli import Result
from clearclip.commands import computed
from figures import estimate
from figures.catalogue import Entry
from figures.runs import RUNS, Choice, Run, state


@dataclass(frozen=True)
class Step:
    """One run of a plan: its options, whether it is finished, or why it cannot be computed."""

    run: Run
    options: Any
    path: Path
    state: str
    reason: str = ""

    @property
    def todo(self) -> bool:
        """Whether it is computed now."""
        return not self.reason and self.state != "finished"


def plan(entries: Sequence[Entry], choice: Choice, folder: Path, restart: bool = False) -> list[Step]:
    """The runs that some figures and tables need, in the order of `RUNS`; `restart` sets interrupted ones aside."""
    needed = {need for entry in entries for need in entry.needs}
    steps = []
    for name, run in RUNS.items():
        if name in needed:
            path = folder / f"{name}.nc"
            reason = run.missing(choice)
            options = None if reason else run.options(choice, Result(path, restart))
            steps.append(Step(run, options, path, "" if reason else state(run, options, path), reason))
    return steps


def print_plan(steps: Sequence[Step], choice: Choice) -> None:
    """Say which runs are finished, which will be computed with how many images, and for how long."""
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
            images, seconds = needed.of(step.run, step.options)
            total += seconds
            again = " (again: what is there was computed from other facts)" if step.state == "other facts" else ""
            print(f"  {step.run.name:12} {images:6,} images, about {estimate.words(seconds)}{again}")
            print(f"  {'':12} {step.run.command(step.options)}")
    if todo:
        print(
            f"to compute: {len(todo)} runs, about {estimate.words(total)} in all, without downloads and text embeddings",
            flush=True,
        )


def compute(step: Step) -> bool:
    """Compute and write one Dataset; returns whether it is there. A run that fails leaves the others their turn."""
    print(f"\n── {step.run.name}: {step.run.command(step.options)}", flush=True)
    began = time.monotonic()
    try:
        computed(step.run.run, step.options)
    except Exception as error:  # one run that fails leaves the others their turn, after hours of computing
        report(error)
        return False
    finally:
        print(f"── {step.run.name}: {time.monotonic() - began:.0f} s", flush=True)
    return True
