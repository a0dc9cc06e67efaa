"""Models × data sets → what each component is worth, in one Dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from analysis.attribution.directions import Directions, of_prototypes, of_texts
from analysis.attribution.worth import Worth
from clearclip.contents import noted
from clearclip.datasets import LabelledPictures, as_dataset
from clearclip.datasets.entries import entries
from clearclip.entries import record
from clearclip.errors import UserError
from clearclip.methods import recipes
from clearclip.methods.recipe import Recipe
from clearclip.models.backbone import Backbone
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.pictures import BadImage
from clearclip.runs import results
from clearclip.runs.pairs import measure_pairs
from clearclip.runs.stream import stream


def worth(
    model: ModelLike,
    dataset: Any,
    recipe: str | Recipe = "clip",
    *,
    prototypes: bool | None = None,
    prompts: str | Sequence[str] = "imagenet",
    cache: Path | None = None,
    proxy: ModelLike | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    strict: bool = False,
    unfinished: Path | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """What every component of a model is worth for finding places: the AUC and the mIoU of its map alone, and without it.

    The map of a component is what it adds to the score of each class at each patch, with the final norm of the whole. A patch
    counts as the class that covers at least half of it. The AUC is that of the class's patches against the picture's others,
    a mean over pictures.

    Args:
        model: a `Backbone`, a live module, or a name.
        dataset: what `clearclip.datasets.load` gives, a name, or a folder.
        recipe: a recipe without stages around the last block.
        prototypes: find classes by the mean features of pictures 0, 2, 4, … in pictures 1, 3, 5, … instead of by their
            names; None does so for models without a text tower.
        prompts: as in `Segmenter`.
        cache: as in `Segmenter`.
        proxy: a second model for recipes that need one.
        batch_size: pictures in one forward pass, if they are equal in size.
        limit: only the first so many pictures.
        strict: raise on the first picture or label that cannot be used.
        unfinished: a file that holds the run while it grows; if it is there already, the run continues from it.
        progress: show a progress bar.

    Returns:
        A Dataset (model, dataset, component, class) with auc, auc_without, miou, miou_without and miou_whole.

    Raises:
        UserError: a recipe whose scores are no sum over components, or no usable picture.

    >>> from clearclip.datasets import load
    >>> result = worth("clip_tiny", load("scenes", count=2), progress=False)
    >>> sorted(result.data_vars)[:4]
    ['auc', 'auc_without', 'class_images', 'images']
    """
    backbone, data, which = as_backbone(model), as_dataset(dataset), recipes.recipe(recipe)
    guide = None if proxy is None else as_backbone(proxy)
    without_text = not backbone.has_text if prototypes is None else prototypes
    count = len(data) if limit is None else min(limit, len(data))
    if without_text:
        if count < 2:
            raise UserError(f"{data.name}, {count} pictures: at least two are needed, one of them for the prototypes.")
        directions, learned = _prototypes(backbone, data, count)
        indices, how = range(1, count, 2), "prototypes"
    else:
        directions, learned = of_texts(backbone, data.classes, prompts, cache), {}
        indices, how = range(count), f"names, prompts {prompts}"
    measurement = Worth(backbone, data, which, directions, indices, batch_size, limit, guide, how, learned)
    return stream(measurement, unfinished=unfinished, strict=strict, progress=progress)


def _prototypes(model: Backbone, dataset: LabelledPictures, count: int) -> tuple[Directions, dict[int, str]]:
    """The prototypes of pictures 0, 2, 4, …, and the contents of those that could be read, by their places."""
    samples, contents = [], {}
    for i, entry in list(enumerate(entries(dataset, count)))[::2]:
        with noted() as notes, suppress(BadImage):  # the run itself names and counts what cannot be used
            samples.append(entry.read())
            contents[i] = record(entry, notes).content
    return of_prototypes(model, dataset, samples), contents


def worth_of_models(
    loaders: Sequence[Callable[[], Backbone]], datasets: Sequence[LabelledPictures], output: Path, **how: Any
) -> xr.Dataset:
    """Measure several models on several data sets; interrupted, the same call continues.

    Args:
        loaders: one function per model, as `clearclip.models.load` makes them.
        datasets: what `clearclip.datasets.load` gives.
        output: where the Dataset will be written. Unfinished runs are kept beside it.
        how: further arguments of `worth`.
    """

    def of_pair(model: Backbone, dataset: LabelledPictures, unfinished: Path) -> xr.Dataset:
        return worth(model, dataset, unfinished=unfinished, **how)

    return measure_pairs(loaders, datasets, output, of_pair, merge)


def merge(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join results of several models and data sets; components and classes that one does not have are NaN there."""
    kinds: dict[str, tuple[Any, ...]] = {}
    for part in parts:
        columns = [part[name].values.tolist() for name in ("component", "kind", "layer", "head")]
        kinds |= {name: about for name, *about in zip(*columns, strict=True)}
    classes = list(dict.fromkeys(name for part in parts for name in part["class"].values.tolist()))
    whole = [
        part.drop_vars(["kind", "layer", "head"]).reindex({"component": list(kinds), "class": classes})
        for part in parts
    ]
    joined = results.joined(results.by_model(whole), "model")
    joined.attrs["skipped"] = results.skipped(parts)
    about = zip(("kind", "layer", "head"), zip(*kinds.values(), strict=True), strict=True)
    return joined.assign_coords({name: ("component", list(column)) for name, column in about})


PLACED = ("embedding", "head", "ffn")  # the others add the same everywhere, but for the length of the token


# in words and tables --------------------------------------------------------------------------------------------------


def panels(dataset: xr.Dataset) -> list[xr.Dataset]:
    """What belongs to one model and data set, without the components that the model does not have."""
    cells = [(model, data) for model in dataset.model.values for data in dataset.dataset.values]
    each = [dataset.sel(model=model, dataset=data) for model, data in cells]
    return [panel.sel(component=panel.miou.notnull()) for panel in each]


def of_class(panel: xr.Dataset, name: str = "") -> xr.DataArray:
    """AUC of every component for one class, or the mean over the classes that pictures hold."""
    if not name:
        return panel.auc.mean("class")
    known = [each for each in panel["class"].values.tolist() if bool(panel.auc.sel({"class": each}).notnull().any())]
    if name not in known:
        raise UserError(f"class {name!r}: no picture holds it beside others. There are: {', '.join(known)}.")
    return panel.auc.sel({"class": name})


def report(dataset: xr.Dataset, name: str = "", count: int = 8) -> str:
    """The components that find classes, or one class, best, and those without which the map gets better or worse.

    Args:
        dataset: as `worth` gives it.
        name: of a class; empty for all.
        count: how many of each.
    """
    lines = []
    for panel in panels(dataset):
        whole = float(panel.miou_whole)
        frame = pd.DataFrame({"AUC": of_class(panel, name).to_series(), "mIoU alone": panel.miou.to_series()})
        frame["mIoU without"] = panel.miou_without.to_series()
        frame["change"] = frame["mIoU without"] - whole
        what = f"class {name}" if name else "all classes"
        lines.append(
            f"{panel.model.item()} on {panel.dataset.item()}, recipe {panel.recipe.item()}, {int(panel.images)} pictures: mIoU "
            f"over patches {whole:.1f} %; components that find {what} best:"
        )
        placed = frame[np.isin(panel.kind.values, PLACED)]
        best = placed.sort_values("AUC", ascending=False).head(count)
        lines.append(best.to_string(float_format=lambda value: f"{value:.2f}", index_names=False))
        order = frame.sort_values("change", ascending=False)
        lines.append("without them the map gets better: " + _named(order[order.change > 0].head(count)))
        lines.append("without them it gets worse: " + _named(order[order.change < 0].iloc[::-1].head(count)) + "\n")
    return "\n".join(lines).rstrip("\n")


def _named(frame: pd.DataFrame) -> str:
    changes = [f"{name} {change:+.1f}" for name, change in frame["change"].items()]
    return ", ".join(changes) or "none"


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, data set, component and class, with the class "mean" for all of them."""
    names = ["model", "dataset", "component", "kind", "layer", "head", "class"]
    each = dataset[["auc", "auc_without", "random_weights"]].to_dataframe().reset_index()
    mean = dataset[["miou", "miou_without", "miou_whole", "random_weights"]].to_dataframe().reset_index()
    areas = dataset[["auc", "auc_without"]].mean("class").to_dataframe().reset_index()
    mean = mean.merge(areas[["model", "dataset", "component", "auc", "auc_without"]]).assign(**{"class": "mean"})
    rows = pd.concat([mean, each], ignore_index=True).dropna(subset="auc")
    return rows[[*names, "auc", "auc_without", "miou", "miou_without", "miou_whole", "random_weights"]]


def reading(dataset: xr.Dataset) -> list[str]:
    """Where the places are found, and which parts of X_res are noise."""
    sentences = []
    for panel in panels(dataset):
        whole, change = float(panel.miou_whole), (panel.miou_without - panel.miou_whole).to_series()
        auc = panel.auc.mean("class").to_series()
        heads, ffns = (auc[(panel.kind == kind).values] for kind in ("head", "ffn"))
        where = f"{panel.model.item()} on {panel.dataset.item()}"
        if len(heads):
            sentences.append(
                f"In {where} the head that finds classes best is {heads.idxmax()} (AUC {heads.max():.2f}); "
                f"{int((heads > 0.6).sum())} of {len(heads)} heads reach 0.6."
            )
        if len(ffns):
            sentences.append(f"The best FFN is that of {ffns.idxmax()[: -len(' FFN')]} (AUC {ffns.max():.2f}).")
        noise, gain = change.idxmax(), change.max()
        if gain > 0:
            sentences.append(
                f"Without {noise} the mIoU over patches would be {whole + gain:.1f} % in place of {whole:.1f} %."
            )
    return sentences
