"""Measure recipes on labelled pictures: intersection over union, all recipes in one pass.

    python -m clearclip.evaluate --model clip_vitb16 --dataset voc20 --recipe clip sclip clearclip

Ctrl-C loses nothing: the same command continues. Several processes or machines: torchrun --nproc-per-node 2 -m clearclip.evaluate …
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clearclip import cli, commands, outputs

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options(commands.EvaluationOptions):
    """Which models, recipes and data sets, and where the result goes."""

    recipe: tuple[str, ...] = ("clip", "maskclip", "sclip", "clearclip")
    """One or several methods, which are measured in one pass; all for every one that `docs/methods.md` lists."""
    result: cli.Result = cli.Result(Path("results/evaluate.nc"))


def run(options: Options) -> xr.Dataset:
    """mIoU of the recipes that were named."""
    from clearclip.methods.recipes import every_recipe, recipes

    every = options.recipe == ("all",)
    return commands.evaluated(
        options, every_recipe(options.scoring.proxy is not None) if every else recipes(options.recipe)
    )


def main() -> None:
    """The command `clearclip evaluate`."""
    options = cli.parse(Options, __doc__)
    from clearclip.evaluation import table
    from clearclip.evaluation.protocol import notes
    from clearclip.evaluation.reading import reading

    output = options.result.output
    same_pictures = partial(commands.same_data, options.labelled, options.running.limit)
    dataset = commands.computed_or_reused(run, options, table.read, same_pictures)
    print(table.report(dataset))
    commands.print_origin(dataset)
    outputs.write(output.with_suffix(".csv"), table.tidy(dataset).to_csv(index=False))
    print(f"wrote {output}, {output.with_suffix('.csv')}")
    print("\n".join([*notes(dataset), *reading(dataset)]))


if __name__ == "__main__":
    cli.run(main)
