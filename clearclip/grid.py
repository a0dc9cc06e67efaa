"""Models × data sets × recipes on a command line: what `python -m clearclip.evaluate` and every sweep share."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clearclip.errors import UserError
from clearclip.loaders import loaders

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from clearclip.datasets import LabelledPictures
    from clearclip.recipes import Recipe
    from clearclip.vit import Backbone

    Recipes = Sequence[str | Recipe] | Callable[[Backbone], Sequence[str | Recipe]]


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
    folder, as voc20:data/voc (by default below data/); scenes, scenes_background and scenes_things (drawn); or a folder of your own
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
    """Evaluate all recipes in one pass a model and data set, write the Dataset; with torchrun only the first process returns.

    `recipes` is a list, or makes one for a model. Interrupted, the same call continues.
    """
    from clearclip import results
    from clearclip.backbones import load
    from clearclip.evaluation import evaluate
    from clearclip.processes import processes
    from clearclip.text import default_cache

    datasets = opened(chosen)
    every = loaders(chosen.model, chosen.checkpoint, chosen.random, chosen.device, chosen.precision)
    proxy = None if chosen.proxy is None else load(chosen.proxy, device=chosen.device)
    found, kept = [], []
    for load_one in every:
        model = load_one()
        for dataset in datasets:
            unfinished = results.unfinished(output, model.name, dataset.name)
            one = evaluate(
                model,
                dataset,
                recipes(model) if callable(recipes) else recipes,
                threshold=chosen.threshold,
                prompts=chosen.prompts,
                cache=chosen.text_cache or default_cache(),
                proxy=proxy,
                norms=norms,
                batch_size=chosen.batch_size,
                limit=chosen.limit,
                strict=chosen.strict,
                unfinished=unfinished,
            )
            found.append(one)
            kept.append(unfinished)
    result = merge(found) if len(found) > 1 else found[0]
    processes().leave_the_rest_to_the_first()
    results.write(result, output)
    results.discard(kept)
    return result


def opened(chosen: GridOptions) -> "list[LabelledPictures]":
    """The data sets, all of them opened before anything runs; none twice."""
    from clearclip.datasets import parse

    datasets = [parse(text, chosen.names, chosen.split, chosen.partial) for text in chosen.dataset]
    called = [dataset.name for dataset in datasets]
    if not called or len(set(called)) != len(called):
        raise UserError(f"data sets {', '.join(called) or '(none)'}: at least one, and each name once.")
    return datasets


def merge(results: "Sequence[xr.Dataset]") -> "xr.Dataset":
    """Join results of several models and data sets; classes and recipes that one does not have are NaN there.

    The confusion matrices are left out: they are large, and joined ones would be mostly empty.
    """
    import numpy as np
    import xarray as xr

    about = [str(name) for name, one in results[0].coords.items() if one.dims == ("recipe",) and name != "recipe"]
    knobs = {recipe: one.sel(recipe=recipe) for one in results for recipe in one.recipe.values.tolist()}
    classes = list(dict.fromkeys(name for one in results for name in one["class"].values.tolist()))
    parts = [
        one.drop_vars([*about, "confusion", "predicted"]).reindex({"recipe": list(knobs), "class": classes})
        for one in results
    ]
    how = {"combine_attrs": "override", "coords": "minimal", "compat": "override", "join": "exact"}
    rows = []
    for model in dict.fromkeys(one.model.item() for one in parts):
        same = [one for one in parts if one.model.item() == model]
        rows.append(xr.concat(same, "dataset", data_vars="minimal", **how))  # type: ignore[call-overload]
    result = rows[0] if len(rows) == 1 else xr.concat(rows, "model", data_vars="minimal", **how)  # type: ignore[call-overload]
    result.attrs["skipped"] = json.dumps([name for one in results for name in json.loads(one.attrs["skipped"])])
    for row in rows[1:]:  # a recipe may be one of a later model only
        result["threshold"] = result.threshold.fillna(row.threshold)
    return result.assign_coords(
        {
            name: ("recipe", np.array([one[name].item() for one in knobs.values()]), results[0][name].attrs)
            for name in about
        }
    )


def table(dataset: "xr.Dataset") -> "pd.DataFrame":
    """mIoU in percent: a row a model and recipe, a column a data set, and their average where there are several."""
    means = dataset.miou.stack(row=("model", "recipe")).transpose("row", "dataset").reset_coords(drop=True).to_pandas()
    return means.assign(average=means.mean(axis=1, skipna=False)) if means.shape[1] > 1 else means


def tidy(dataset: "xr.Dataset") -> "pd.DataFrame":
    """One row a model, data set, recipe and class, with the class "mean" for the mIoU; random weights are marked."""
    import pandas as pd

    knobs = [str(name) for name, values in dataset.coords.items() if values.dims == ("recipe",) and name != "recipe"]
    about = [*knobs, "random_weights"]
    each = dataset[["iou", "intersection", "union", *about]].to_dataframe().reset_index()
    mean = dataset[["miou", "pixel_accuracy", *about]].to_dataframe().reset_index().rename(columns={"miou": "iou"})
    rows = pd.concat([mean.assign(**{"class": "mean"}), each], ignore_index=True).dropna(subset="iou")
    first = ["model", "dataset", "recipe", "class", "iou", "pixel_accuracy", "intersection", "union"]
    return rows[[*first, *about]]


def output_file(chosen: GridOptions, command: str) -> Path:
    """Where the Dataset goes."""
    output = chosen.output or Path("results", f"{command}.nc")
    if output.suffix != ".nc":
        raise UserError(f"{output}: the Dataset is written as NetCDF, so name a .nc file.")
    return output


def report(dataset: "xr.Dataset", output: Path, show: "Callable[[xr.Dataset], pd.DataFrame]" = table) -> Path:
    """Print the table, say what was skipped and which weights are random, write the .csv beside the Dataset; its path."""
    pictures = ", ".join(
        f"{int(count)} of {name}" for name, count in zip(dataset.dataset.values, dataset.images.values[0], strict=True)
    )
    print(f"mIoU in percent, {pictures}")
    print(show(dataset).to_string(float_format=lambda value: f"{value:.1f}", na_rep=""))
    for model, random in zip(dataset.model.values, dataset.random_weights.values, strict=True):
        if random:
            print(f"{model}: RANDOM WEIGHTS, numbers say nothing about a trained model")
    skipped = json.loads(dataset.attrs["skipped"])
    if skipped:
        print(f"skipped {len(skipped)} pictures that could not be used")
    csv = output.with_suffix(".csv")
    tidy(dataset).to_csv(csv, index=False)
    return csv
