"""Is the published mIoU measured here, too? One command from a benchmark's folder to the difference.

    python -m clearclip.reproduce voc20 --model clip_vitb16
    python -m clearclip.reproduce voc20:data/voc --model clip_vitl14 --limit 100

The rows are those of the paper's Tables 2, 3 and 5 for this model. With --limit the answer is partial, and an interval says
how sure it is. The exit code is 1 if a complete measurement is further than ± 0.3 from a number that the paper's authors
measured themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from clearclip import cli, commands
from clearclip.errors import UserError

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Options:
    """Which benchmark, which model, and where the result goes."""

    dataset: Annotated[str, tyro.conf.Positional] = "voc20"
    """A benchmark with its folder, such as voc20:data/voc (by default below data/)."""
    models: cli.Models = cli.Models(("clip_vitb16",))
    recipe: tuple[str, ...] = ("clip", "maskclip", "sclip", "clearclip")
    """Which rows, by recipe: these, or others of Table 5, such as sclip+clearclip. Those without a published number
    are left out."""
    partial: bool = False
    """Use the complete pairs of a half-unpacked folder."""
    text: cli.Text = cli.Text()
    running: cli.Running = cli.Running()
    result: cli.Result = cli.Result(Path("results/reproduce.nc"))


def run(options: Options) -> xr.Dataset:
    """mIoU of the recipes that have a published number, with what every picture contributes."""
    from clearclip.datasets import parse
    from clearclip.evaluation.reproduction import expected
    from clearclip.evaluation.sweep import evaluate_sweep

    running = options.running
    loaders = cli.loaders(options.models, running)
    if len(loaders) != 1:
        raise UserError(f"models {', '.join(options.models.model)}: name one.")
    printed = expected(
        _architecture(options), options.dataset.partition(":")[0], options.recipe
    )  # nothing is loaded yet
    return evaluate_sweep(
        loaders,
        [parse(options.dataset, "clearclip", None, options.partial)],
        list(printed),
        cli.dataset_file(options.result),
        prompts=cli.templates(options.text),
        cache=cli.text_cache(options.text),
        per_image=True,
        limit=running.limit,
        batch_size=running.batch_size,
        strict=running.strict,
    )


def _architecture(options: Options) -> str:
    from clearclip.models.load import resolve
    from clearclip.models.named import all_named

    return resolve(all_named(options.models.model, options.models.checkpoint)[0].name)


def main() -> int:
    """The command `python -m clearclip.reproduce`."""
    options = cli.parse(Options, __doc__)
    from clearclip.datasets import BENCHMARKS
    from clearclip.evaluation.reproduction import expected, outcomes, protocol
    from clearclip.runs import results

    same_pictures = partial(commands.same_data, cli.Labelled((options.dataset,), partial=options.partial))
    dataset = commands.computed_or_reused(run, options, results.read, same_pictures)
    name = options.dataset.partition(":")[0]
    rows = outcomes(dataset, expected(_architecture(options), name, options.recipe), BENCHMARKS[name].counts["val"])
    print("\n".join(protocol(dataset)))
    commands.print_origin(dataset)
    print("\n".join(map(str, rows)))
    print(f"wrote {options.result.output}")
    return int(any(row.differs for row in rows))


if __name__ == "__main__":
    cli.run(main)
