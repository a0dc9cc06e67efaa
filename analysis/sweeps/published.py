"""The published numbers under this project's names; they lie as data in clearclip/evaluation/reference, with their origin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pandas as pd

from analysis.sweeps import recipe_lists
from clearclip import datasets
from clearclip.evaluation.protocol import CLEARCLIP
from clearclip.evaluation.published import SOURCES, added, described, methods, reference, tidy
from clearclip.methods.recipes import RECIPES, Recipe, feature_recipe
from clearclip.models.block import FEATURES

PRINTED = {name: kind.facts for name, kind in datasets.BENCHMARKS.items() if kind.facts.printed}
WITHOUT_BACKGROUND = tuple(name for name, facts in PRINTED.items() if not facts.background)
WITH_BACKGROUND = tuple(name for name, facts in PRINTED.items() if facts.background)
BENCHMARKS = (*WITHOUT_BACKGROUND, *WITH_BACKGROUND)


def has_background(dataset: str) -> bool:
    """Whether a dataset has a background class.

    >>> has_background("voc21"), has_background("scenes_background"), has_background("scenes")
    (True, True, False)
    """
    return datasets.facts(dataset).background


@cache
def table(number: int | str) -> pd.DataFrame:
    """One published table (1 … 5) or another file ("fig3", "peers", "readings"), one row per number.

    Columns: source, method and encoder as printed, origin ("run" by the paper's authors, or quoted), protocol ("" where it is
    none of this package's), model and recipe under
    this project's names (missing where there is none), dataset (or "mean of 5", "mean of 3", "mean of 8") and mIoU in %.

    >>> table(2).query("method == 'TCL' and dataset == 'voc20'").miou.item()
    77.5
    """
    name = f"table{number}" if isinstance(number, int) else number
    wide = reference(name)
    rows = {
        "table1": _ablation,
        "table4": _pruning,
        "table5": added,
        "fig3": _features,
        "readings": _readings,
    }.get(name, methods)(wide)
    return tidy(name, rows)


def _ablation(wide: pd.DataFrame) -> pd.DataFrame:
    rows = zip(wide.attention, wide.residual == "on", wide.ffn == "on", strict=True)
    names = [recipe_lists.ablation_name(attention, residual, ffn) for attention, residual, ffn in rows]
    return described(
        wide, method="CLIP", encoder="ViT-B/16", origin="run", protocol=CLEARCLIP, model="clip_vitb16", recipe=names
    )


def _pruning(wide: pd.DataFrame) -> pd.DataFrame:
    names = [
        recipe_lists.NORMALIZED if row == "normalised" else recipe_lists.beta_name(float(row) / 100)
        for row in wide.beta_percent.astype(str)
    ]
    return described(
        wide, method="CLIP", encoder="ViT-B/16", origin="run", protocol=CLEARCLIP, model="clip_vitb16", recipe=names
    )


def _features(wide: pd.DataFrame) -> pd.DataFrame:
    return described(
        wide,
        method=wide.feature,
        encoder="ViT-B/16",
        origin="run",
        protocol=CLEARCLIP,
        model="clip_vitb16",
        recipe=wide.feature,
    )


def _readings(wide: pd.DataFrame) -> pd.DataFrame:
    """The two means that the text gives; the other readings are about feature maps."""
    means = wide[wide.quantity.str.startswith("average of 5 datasets")]
    names = [
        recipe_lists.ablation_name(words[words.index("CLIP-B/16") + 1], False, False)
        for words in means.quantity.str.split()
    ]
    return described(
        pd.DataFrame({"average": means.value.astype(float)}),
        method="CLIP",
        encoder="ViT-B/16",
        origin="run",
        protocol=CLEARCLIP,
        model="clip_vitb16",
        recipe=names,
    )


@cache
def everything() -> pd.DataFrame:
    """All published numbers that belong to a model and a recipe of this project, those that ClearCLIP's authors ran first.

    >>> len(everything()) > 250
    True
    """
    rows = pd.concat([table(name) for name in SOURCES], ignore_index=True).dropna(subset=["model", "recipe"])
    rows["rank"] = [0 if origin.startswith("run") else 1 for origin in rows.origin]
    return rows.sort_values("rank", kind="stable").drop(columns="rank").reset_index(drop=True)


@cache
def _numbers() -> dict[tuple[str, str, Recipe], dict[str, float]]:
    """Every published mIoU by model, data set and what is computed, and by protocol, the first of each."""
    features = [feature_recipe(feature) for feature in FEATURES]
    recipes = [*RECIPES.values(), *recipe_lists.ablation(), *recipe_lists.beta(), *features]
    computed = {recipe.name: recipe.nameless for recipe in recipes}
    numbers: dict[tuple[str, str, Recipe], dict[str, float]] = {}
    columns = ["model", "dataset", "recipe", "protocol", "miou"]
    for model, dataset, name, protocol, miou in everything()[columns].values.tolist():
        numbers.setdefault((model, dataset, computed[name]), {}).setdefault(protocol, float(miou))
    return numbers


def value(model: str, dataset: str, recipe: str | Recipe, protocol: str | None = None) -> float | None:
    """The published mIoU in %, or None. Rows that ClearCLIP's authors ran go before quoted ones.

    `dataset` is a benchmark or a printed "mean of 5" or "mean of 8"; `recipe` is matched by what it computes; `protocol` leaves
    out the numbers of every other one.

    >>> value("openclip_vitl14", "ade20k", "clearclip"), value("clip_vitb16", "voc20", Recipe("mine", "qq", ffn=False))
    (16.0, 62.8)
    >>> value("clip_vitb16", "voc20", "sclip", "clearclip"), value("clip_vitb16", "voc20", "sclip", "sclip")
    (78.2, 80.4)
    """
    known = RECIPES.get(recipe) if isinstance(recipe, str) else recipe
    numbers = {} if known is None else _numbers().get((model, dataset, known.nameless), {})
    return next(iter(numbers.values()), None) if protocol is None else numbers.get(protocol)


def mean(model: str, datasets: Sequence[str], recipe: str | Recipe, protocol: str | None = None) -> float | None:
    """The mean of the published mIoU over datasets, or None where one is missing; `protocol` as in `value`.

    It is computed from the single values; only where the paper gives none of them, the printed mean is taken.

    >>> mean("clip_vitb16", WITHOUT_BACKGROUND, "sclip+clearclip")   # printed as 37.9
    37.02
    """
    single = [value(model, dataset, recipe, protocol) for dataset in datasets]
    present = [miou for miou in single if miou is not None]
    if present and len(present) == len(single):
        return round(sum(present) / len(present), 6)
    whole = {frozenset(WITHOUT_BACKGROUND): "mean of 5", frozenset(BENCHMARKS): "mean of 8"}.get(frozenset(datasets))
    return value(model, whole, recipe, protocol) if whole else None
