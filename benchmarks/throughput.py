"""How many pictures does a machine segment in a second, and how much memory does it take? Models × recipes.

    python -m benchmarks.throughput --model clip_vitb16 clip_vitl14 --precision fp32 bf16

Every model evaluates photographs of 500 × 375 from memory with each recipe, from pixels to confusion matrices, with random weights
and texts that are embedded before. On CUDA the peak is what PyTorch allocates there, and the rows say how many times a batch made
the program wait for the device, which should be 0; elsewhere the peak is the process's own, of all that ran before, too.
"""

import argparse
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

import clearclip
from benchmarks.common import Row, device, peak_memory, row, show, turns
from benchmarks.evaluate import Photographs, embedded, embedding, fifty
from clearclip.models.backbone import Backbone
from clearclip.models.precision import advised

NAME = "throughput"
PRECISION = "by default fp32, and bf16 where the hardware multiplies it"
LISTS = {"50 recipes": fifty}  # what --recipe calls a list


def measured(model: Backbone, recipe: str, given: argparse.Namespace) -> list[Row]:
    """Images per second, peak memory, and on CUDA the waits of one model and recipe."""
    dataset = Photographs(None, given.photos, given.classes)
    recipes = LISTS[recipe]() if recipe in LISTS else [recipe]
    size = given.batch_size

    def run() -> None:
        clearclip.evaluate(model, dataset, recipes, threshold=0.0, batch_size=size, progress=False)

    with embedding(embedded(model, given.classes)):
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        taken = turns({"run": run}, given.repeats)
        what = f"{model.name}, {recipe}, {model.precision}, batch {size}, {given.classes} classes"
        where = device(model.device)
        found = [
            row(NAME, what, where, "images/s", [given.photos / seconds for seconds in taken.wall["run"]]),
            row(NAME, f"{what}, peak memory", where, "MiB", [peak(model)]),
        ]
        if model.device.type == "cuda":
            with waits() as seen:
                run()
            found.append(row(NAME, f"{what}, waits of all batches", where, "", [len(seen)]))
    return found


def peak(model: Backbone) -> float:
    """MiB at the peak."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory()


@contextmanager
def waits() -> Iterator[list[warnings.WarningMessage]]:
    """What makes the program wait for CUDA inside, as PyTorch warns of it."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode("default")
            seen[:] = [warning for warning in seen if "synchroniz" in str(warning.message)]


def options() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--model", nargs="+", default=["clip_vitb16"])
    words.add_argument("--recipe", nargs="+", default=["clearclip", "50 recipes"])
    words.add_argument("--precision", nargs="+", default=[], choices=["fp32", "bf16", "fp16"], help=PRECISION)
    words.add_argument("--batch-size", type=int, default=8)
    words.add_argument("--photos", type=int, default=8)
    words.add_argument("--classes", type=int, default=171)
    words.add_argument("--repeats", type=int, default=3)
    return words


def rows(given: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    found = []
    usual = list(dict.fromkeys(["fp32", advised(torch.device("cuda" if torch.cuda.is_available() else "cpu"))]))
    for name, precision in itertools.product(given.model, given.precision or usual):
        model = clearclip.load(name, random=True, precision=precision)
        for recipe in given.recipe:
            found += measured(model, recipe, given)
    return found


def main() -> None:
    show(rows(options().parse_args()), "Random weights; photographs of 500 × 375")


if __name__ == "__main__":
    main()
