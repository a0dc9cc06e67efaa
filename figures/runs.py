"""Which door's run(options) computes what the figures and tables read, for a choice of models, data sets and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from analysis import ablation, alpha, beta, compare, entropy, featuremaps, layers, maps, norms, tokens
from analysis.commands import Pictures
from analysis.probes import label_maps, store
from analysis.probes.label_maps import recipes_of
from analysis.prototypes import __main__ as prototypes
from analysis.prototypes import table as prototype_table
from analysis.sweeps import read as sweeps
from analysis.sweeps import recipe_lists
from clearclip import finished
from clearclip.cli import Labelled, Models, Result, Running
from clearclip.commands import command_line, door_of
from clearclip.methods.recipes import Recipe
from clearclip.models.backbone import Backbone
from clearclip.models.load import has_text

PICTURES = 4  # rows of the figures that show label maps


@dataclass(frozen=True)
class Choice:
    """Which models, data sets and pictures everything is drawn from."""

    model: tuple[str, ...] = ("clip_tiny",)
    against: tuple[str, ...] = ("dino_tiny",)  # for the comparisons that need no text
    dataset: tuple[str, ...] = ()  # name:folder
    images: tuple[str, ...] = ()
    checkpoint: tuple[Path, ...] = ()  # one for each of model and against, - for none
    random: bool = False
    running: Running = Running()

    @property
    def everyone(self) -> tuple[str, ...]:
        """All models."""
        return (*self.model, *self.against)

    @property
    def readers(self) -> tuple[str, ...]:
        """The models that have a text tower.

        >>> DEMO.readers, Choice(("dinov2_vits14",), ()).readers
        (('clip_tiny',), ())
        """
        return tuple(model for model in self.everyone if has_text(model))

    def models(self, names: Sequence[str]) -> Models:
        """The options that name some of the models."""
        files = dict(zip(self.everyone, self.checkpoint, strict=False))
        given = tuple(files.get(name, Path("-")) for name in names)
        return Models(tuple(names), given if any(file != Path("-") for file in given) else (), self.random)

    def pictures(self) -> tuple[str, ...]:
        """Where the pictures of statistics come from: what was named, else the first data set on disk, else photographs."""
        on_disk = []
        for text in self.dataset:
            name, colon, root = text.partition(":")
            if name == "folder" or (not colon and Path(text).is_dir()):
                on_disk.append(str(Path(root or text, "images")))
            elif colon:
                on_disk.append(text)
        return self.images or tuple(on_disk[:1]) or ("photographs",)


DEMO = Choice(
    dataset=("scenes", "scenes_things", "scenes_background"),
    images=("photographs", "scenes"),
    running=Running(limit=32),
)


@dataclass(frozen=True)
class Run:
    """One door, and its options for a choice.

    `recipes` are those it measures with a model; where it measures none, a picture takes `cost` plain passes. `read` reads its
    Dataset from a file.
    """

    name: str
    run: Callable[[Any], xr.Dataset]
    options: Callable[[Choice, Result], Any]
    recipes: Callable[[Backbone], Sequence[Recipe]] = lambda model: ()
    text: bool = True  # needs a model with a text tower
    labels: bool = True  # needs a data set with labels
    cost: float = 1.1
    read: Callable[[Path], xr.Dataset] = sweeps.read

    def missing(self, choice: Choice) -> str:
        """Why it cannot be computed for a choice, or nothing."""
        if self.text and not choice.readers:
            return "needs a model with a text tower"
        if self.labels and not choice.dataset:
            return "needs a data set with labels: name one with --dataset"
        return ""

    def command(self, options: Any) -> str:
        """The command line that computes the same."""
        return command_line(self.run, options)


def _statistics(kind: Any, choice: Choice, result: Result) -> Any:
    return kind(
        models=choice.models(choice.everyone),
        pictures=Pictures(choice.pictures()),
        running=choice.running,
        result=result,
    )


def _featuremaps(choice: Choice, result: Result) -> Any:
    sources = choice.pictures()
    limit = 2 if len(sources) == 1 else 1  # of each source; every picture takes one row per model
    options = _statistics(featuremaps.Options, choice, result)
    return replace(options, running=replace(choice.running, limit=limit))


def _sweep(kind: Any, choice: Choice, result: Result, **more: Any) -> Any:
    labelled = replace(kind().labelled, dataset=choice.dataset)
    models = choice.models(choice.readers)
    return kind(models=models, labelled=labelled, running=choice.running, result=result, **more)


def _prototypes(choice: Choice, result: Result) -> Any:
    return replace(_sweep(prototypes.Options, choice, result), models=choice.models(choice.everyone))


def _maps(benchmark: str, turn: int, choice: Choice, result: Result) -> Any:
    """Pictures of the benchmark that the paper shows; where it was not named, other pictures of the data sets in turn."""
    there = [text for text in choice.dataset if text.partition(":")[0] == benchmark]
    return maps.Options(
        models=choice.models(choice.readers[:1]),
        labelled=Labelled(tuple(there[:1]) or (choice.dataset[turn % len(choice.dataset)],)),
        first=0 if there else turn * PICTURES,
        running=replace(choice.running, limit=PICTURES),
        result=result,
    )


RUNS: dict[str, Run] = {
    run.name: run
    for run in (
        Run(
            "statistics",
            entropy.run,
            partial(_statistics, entropy.Options),
            text=False,
            labels=False,
            read=store.read,
        ),
        Run(
            "featuremaps",
            featuremaps.run,
            _featuremaps,
            text=False,
            labels=False,
            read=partial(store.read_maps, "feature_map"),
        ),
        Run(
            "tokens",
            tokens.run,
            partial(_statistics, tokens.Options),
            text=False,
            labels=False,
            cost=4.0,
            read=store.read,
        ),
        Run(
            "maps_fig7",
            maps.run,
            partial(_maps, "coco_stuff", 0),
            lambda model: recipes_of(maps.Options().recipe),
            read=label_maps.read,
        ),
        Run(
            "maps_fig10",
            maps.run,
            partial(_maps, "ade20k", 1),
            lambda model: recipes_of(maps.Options().recipe),
            read=label_maps.read,
        ),
        Run(
            "maps_fig11",
            maps.run,
            partial(_maps, "context59", 2),
            lambda model: recipes_of(maps.Options().recipe),
            read=label_maps.read,
        ),
        Run(
            "norms_miou",
            norms.run_with_miou,
            partial(_sweep, norms.MiouOptions, miou=True),
            lambda model: recipe_lists.norms(),
        ),
        Run("ablation", ablation.run, partial(_sweep, ablation.Options), lambda model: recipe_lists.ablation()),
        Run("alpha", alpha.run, partial(_sweep, alpha.Options), lambda model: recipe_lists.alpha()),
        Run("beta", beta.run, partial(_sweep, beta.Options), lambda model: recipe_lists.beta()),
        Run("compare", compare.run, partial(_sweep, compare.Options), lambda model: recipe_lists.compare()),
        Run("layers", layers.run, partial(_sweep, layers.Options), recipe_lists.layers),
        Run("prototypes", prototypes.run, _prototypes, text=False, cost=2.5, read=prototype_table.read),
    )
}


def state(run: Run, options: Any, path: Path) -> Literal["finished", "other facts", "missing"]:
    """Whether the Dataset of a run is there, and whether it was written with these options and these weights."""
    return finished.state(door_of(run.run), options, path)
