"""From the options of a door to its Dataset: what every door that measures recipes shares."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from clearclip import cli

if TYPE_CHECKING:  # doors answer --help at once, so what they call is imported when it is called
    import xarray as xr

    from clearclip.evaluation.run import Recipes


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


def evaluated(options: EvaluationOptions, recipes: Recipes, norms: bool = False) -> xr.Dataset:
    """One Dataset of these recipes over all models and data sets."""
    from clearclip.evaluation.run import evaluate_sweep
    from clearclip.models.load import load

    running, scoring = options.running, options.scoring
    return evaluate_sweep(
        cli.loaders(options.models, running),
        cli.datasets(options.labelled),
        recipes,
        cli.dataset_file(options.result),
        proxy=None if scoring.proxy is None else load(scoring.proxy, device=running.device),
        threshold=scoring.threshold,
        prompts=cli.templates(options.text),
        cache=cli.text_cache(options.text),
        norms=norms,
        limit=running.limit,
        batch_size=running.batch_size,
        strict=running.strict,
    )


def computed(run: Callable[[Options], xr.Dataset], options: Options) -> xr.Dataset:
    """The Dataset of a door, with its options, written; the unfinished runs behind it are discarded only then."""
    from clearclip.runs import results

    output = cli.dataset_file(options.result)
    dataset = run(options).assign_attrs(options=json.dumps(cli.facts(options)))
    results.write(dataset, output)
    results.discard_unfinished(output)
    return dataset


def print_origin(dataset: xr.Dataset) -> None:
    """Say which models have random weights, and how many pictures could not be used."""
    for model, random in zip(dataset.model.values, dataset.random_weights.values, strict=True):
        if random:
            print(f"{model}: RANDOM WEIGHTS, numbers say nothing about a trained model")
    skipped = json.loads(dataset.attrs.get("skipped", "[]"))
    if skipped:
        print(f"skipped {len(skipped)} pictures that could not be used")
