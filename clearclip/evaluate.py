"""Measure recipes on labelled pictures: intersection over union, all recipes in one pass.

    python -m clearclip.evaluate --model clip_vitb16 --dataset voc20 --recipe clip sclip clearclip

Ctrl-C loses nothing: the same command continues. Several processes or machines: torchrun --nproc-per-node 2 -m clearclip.evaluate …
"""

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from clearclip.cli import options, run
from clearclip.evaluation.door import GridOptions, evaluate_grid, output_file, report


@dataclass(frozen=True)
class EvaluateOptions(GridOptions):
    """Which models, recipes and data sets, and where the result goes."""

    recipe: tuple[str, ...] = ("clip", "maskclip", "sclip", "clearclip")
    """One or several methods; all are measured in one pass."""


def main() -> None:
    """The command `python -m clearclip.evaluate`."""
    chosen = options(EvaluateOptions, __doc__ or "")
    from clearclip.methods.recipes import recipes

    recipes(chosen.recipe)  # refuses an unknown one before anything is loaded
    output = output_file(chosen, "evaluate")
    written = report(evaluate_grid(chosen, chosen.recipe, output), output)
    print("wrote " + ", ".join(map(str, [output, written])))


class _Function(ModuleType):
    """This module, which can be called, so that `clearclip.evaluate` is the function whether or not the module is imported."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from clearclip.evaluation.run import evaluate

        return evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = _Function

if __name__ == "__main__":
    run(main)
