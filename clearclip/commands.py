"""From the options of a door to its Dataset: what every door that measures recipes shares."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, get_type_hints

import tyro

from clearclip import cli, outputs
from clearclip.textfiles import readable

if TYPE_CHECKING:  # doors answer --help at once, so what they call is imported when it is called
    import xarray as xr

    from clearclip.evaluation.sweep import Recipes


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Which models, which data sets, and where the result goes."""

    models: cli.Models = cli.Models(("clip_tiny",))
    labelled: cli.Labelled = cli.Labelled()
    scoring: cli.Scoring = cli.Scoring()
    text: cli.Text = cli.Text()
    running: cli.Running = cli.Running()
    result: cli.Result


class Written(Protocol):
    """The options of any door that writes a Dataset."""

    @property
    def result(self) -> cli.Result: ...  # noqa: D102


Options = TypeVar("Options", bound=Written)
Asked = TypeVar("Asked")  # the options of any door


def evaluated(options: EvaluationOptions, recipes: Recipes, norms: bool = False) -> xr.Dataset:
    """One Dataset of these recipes over all models and data sets."""
    from clearclip.evaluation.sweep import evaluate_sweep
    from clearclip.models.load import load

    running, scoring = options.running, options.scoring
    return evaluate_sweep(
        cli.loaders(options.models, running),
        cli.datasets(options.labelled),
        recipes,
        cli.dataset_file(options.result),
        proxy=scoring.proxy and load(scoring.proxy, device=running.device, positions=options.models.positions),
        protocol=scoring.protocol,
        threshold=scoring.threshold,
        floss=scoring.floss,
        prompts=cli.templates(options.text),
        cache=cli.text_cache(options.text),
        text=cli.text_embeddings(options.text),
        norms=norms,
        limit=running.limit,
        batch_size=running.batch_size,
        strict=running.strict,
    )


def computed(run: Callable[[Options], xr.Dataset], options: Options) -> xr.Dataset:
    """The Dataset of a door, with its options, written; the unfinished runs behind it are discarded only then."""
    from clearclip.runs.reservation import reserved
    from clearclip.runs.unfinished_files import write_result

    output = cli.dataset_file(options.result)
    about = {"command": command_line(run, options), "options": json.dumps({"door": door_of(run), **cli.facts(options)})}
    outputs.refuse_unwritable(output, output.with_suffix(".csv"))
    with reserved(output, options.result.restart):
        dataset = run(options).assign_attrs(about)
        write_result(dataset, output)
    return dataset


def computed_or_reused(
    run: Callable[[Options], xr.Dataset],
    options: Options,
    read: Callable[[Path], xr.Dataset],
    same_pictures: Callable[[xr.Dataset], bool],
) -> xr.Dataset:
    """What `computed` gives, or what a door's own output file already holds, with a line that says so."""
    from clearclip.finished import reusable
    from clearclip.runs.unfinished_files import discard_older

    output = cli.dataset_file(options.result)
    dataset = reusable(door_of(run), options, same_pictures, read)
    if dataset is None:
        return computed(run, options)
    discard_older(output)  # of a run that was killed between its result and its end
    print(f"{output} of {dataset.attrs['created']} holds this already and is used; delete it to measure again")
    return dataset


def same_data(labelled: cli.Labelled, limit: int | None, dataset: xr.Dataset) -> bool:
    """Whether the pictures and labels that are named still are, byte by byte, those that a Dataset was made from."""
    from clearclip.datasets.entries import digest_now

    return dataset.data_sha256.values.tolist() == [digest_now(data, limit) for data in cli.datasets(labelled)]


def door_of(run: Callable[..., object]) -> str:
    """The module of a door, as it stands after python -m."""
    spec = sys.modules["__main__"].__spec__ if run.__module__ == "__main__" else None
    module = (spec.name if spec else run.__module__).removesuffix(".__main__")
    return "clearclip.evaluate" if module == "clearclip.evaluation" else module  # whose room has another name


def command_line(run: Callable[[Asked], object], options: Asked) -> str:
    """The command that does the same as a door's `run(options)`: the options that differ from the door's own."""
    usual, words = cli.facts(type(options)()), ["python", "-m", door_of(run)]
    hints = get_type_hints(type(options), include_extras=True)
    positional = {name for name, hint in hints.items() if tyro.conf.Positional in getattr(hint, "__metadata__", ())}
    for name, value in cli.facts(options).items():
        if value != usual[name]:
            values = value if isinstance(value, list) else [] if value is True else [value]
            flag = [] if name in positional else [f"--{name.replace('_', '-')}"]
            words += [*flag, *map(str, values)]
    return readable(shlex.join(words))


def print_origin(dataset: xr.Dataset) -> None:
    """Say which models have random weights or are the small ones, and how many pictures could not be used."""
    from clearclip.runs.results import shipped_models

    for model, random in zip(dataset.model.values, dataset.random_weights.values, strict=True):
        if random:
            print(f"{model}: RANDOM WEIGHTS, numbers say nothing about a trained model")
    for model, name in shipped_models(dataset).items():
        print(about_shipped(model, name))
    skipped = dataset.attrs.get("skipped_images", len(json.loads(dataset.attrs.get("skipped", "[]"))))
    if skipped:
        print(f"skipped {skipped} pictures that could not be used")


def about_shipped(model: str, name: str) -> str:
    """The line below results of a model that comes with the package; `name` is its own, `model` what the result says.

    >>> about_shipped("clip_tiny", "clip_tiny")
    'clip_tiny: small, trained on drawn scenes; where it differs from the paper: clearclip/zoo/weights/clip_tiny.md'
    """
    return f"{model}: small, trained on drawn scenes; where it differs from the paper: clearclip/zoo/weights/{name}.md"
