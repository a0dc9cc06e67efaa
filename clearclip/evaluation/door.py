"""What `python -m clearclip.evaluate` and every sweep share, until each is a door of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clearclip.errors import UserError
from clearclip.models.loaders import loaders

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from clearclip.datasets import LabelledPictures
    from clearclip.evaluation.sweep import Recipes


@dataclass(frozen=True)
class GridOptions:
    """Which models, which data sets, and where the result goes."""

    model: tuple[str, ...] = ("clip_tiny",)
    """One or several CLIPs, such as clip_vitb16 or open_clip:<arch>/<tag>; by default the small one that comes with the package."""
    checkpoint: tuple[Path, ...] = ()
    """Local weights (safetensors or weights-only .pt) instead of the hub's, one file for each model, - for none."""
    random: bool = False
    """Random weights, for a trial without any; every result says so."""
    dataset: tuple[str, ...] = ("scenes",)
    """One or several of voc20, voc21, context59, context60, coco_object, coco_stuff, cityscapes, ade20k, each with its
    folder, as voc20:data/voc (by default below data/); scenes and scenes_background (drawn); or a folder of your own
    with images/, labels/, classes.txt."""
    names: Literal["clearclip", "standard"] = "clearclip"
    """Class names of ClearCLIP's published run, or the data set's own."""
    split: str | None = None
    """By default val, and test for drawn scenes."""
    partial: bool = False
    """Use the complete pairs of a half-unpacked folder."""
    limit: int | None = None
    """Only the first so many pictures of each data set."""
    proxy: str | None = None
    """A second model for recipes that need one, such as dino_vitb8."""
    prompts: Literal["imagenet", "simple", "photo"] = "imagenet"
    """The prompt templates: imagenet (its 80), simple (7 of them), photo (one)."""
    threshold: float | None = None
    """The score below which a pixel is background; by default the published one of each data set."""
    batch_size: int = 8
    """Windows in one forward pass."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps, …; by default the accelerator if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32, or autocast to bf16 or fp16."""
    text_cache: Path | None = None
    """Where text embeddings are kept; by default clearclip/text in the user's cache folder."""
    output: Path | None = None
    """The Dataset, a .nc file; by default results/<command>.nc. The .csv goes beside it."""
    strict: bool = False
    """Stop at the first picture or label that cannot be used, instead of naming, counting and skipping it."""


def evaluate_grid(chosen: GridOptions, recipes: "Recipes", output: Path, norms: bool = False) -> "xr.Dataset":
    """Evaluate all recipes in one pass per model and data set, write the Dataset; with torchrun only the first process returns."""
    from clearclip.evaluation.sweep import evaluate_sweep
    from clearclip.models.load import load
    from clearclip.runs import unfinished_files
    from clearclip.segmentation.text import default_cache

    datasets = opened(chosen)
    result = evaluate_sweep(
        loaders(chosen.model, chosen.checkpoint, chosen.random, chosen.device, chosen.precision),
        datasets,
        recipes,
        output,
        threshold=chosen.threshold,
        prompts=chosen.prompts,
        cache=chosen.text_cache or default_cache(),
        proxy=None if chosen.proxy is None else load(chosen.proxy, device=chosen.device),
        norms=norms,
        batch_size=chosen.batch_size,
        limit=chosen.limit,
        strict=chosen.strict,
    )
    unfinished_files.write_result(result, output)
    return result


def opened(chosen: GridOptions) -> "list[LabelledPictures]":
    """The data sets, all of them opened before anything runs; none twice."""
    from clearclip.datasets import parse

    datasets = [parse(text, chosen.names, chosen.split, chosen.partial) for text in chosen.dataset]
    called = [dataset.name for dataset in datasets]
    if not called or len(set(called)) != len(called):
        raise UserError(f"data sets {', '.join(called) or '(none)'}: at least one, and each name once.")
    return datasets


def output_file(chosen: GridOptions, command: str) -> Path:
    """Where the Dataset goes."""
    output = chosen.output or Path("results", f"{command}.nc")
    if output.suffix != ".nc":
        raise UserError(f"{output}: the Dataset is written as NetCDF, so name a .nc file.")
    return output


def report(dataset: "xr.Dataset", output: Path, show: "Callable[[xr.Dataset], pd.DataFrame] | None" = None) -> Path:
    """Print the table, say what was skipped and which weights are random, write the .csv beside the Dataset; its path."""
    from clearclip.evaluation.table import table, tidy

    pictures = ", ".join(
        f"{int(count)} of {name}" for name, count in zip(dataset.dataset.values, dataset.images.values[0], strict=True)
    )
    print(f"mIoU in percent, {pictures}")
    print((show or table)(dataset).to_string(float_format=lambda value: f"{value:.1f}", na_rep=""))
    for model, random in zip(dataset.model.values, dataset.random_weights.values, strict=True):
        if random:
            print(f"{model}: RANDOM WEIGHTS, numbers say nothing about a trained model")
    skipped = json.loads(dataset.attrs["skipped"])
    if skipped:
        print(f"skipped {len(skipped)} pictures that could not be used")
    csv = output.with_suffix(".csv")
    tidy(dataset).to_csv(csv, index=False)
    return csv
