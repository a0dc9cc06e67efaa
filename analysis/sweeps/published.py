"""The published numbers under this project's names; they lie as data in analysis/sweeps/reference, with their origin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import pandas as pd

from analysis.sweeps import recipe_lists
from clearclip import datasets
from clearclip.errors import UserError
from clearclip.methods.recipes import RECIPES, Recipe, feature_recipe
from clearclip.models.block import FEATURES

PRINTED = {name: kind.facts for name, kind in datasets.BENCHMARKS.items() if kind.facts.printed}
WITHOUT_BACKGROUND = tuple(name for name, facts in PRINTED.items() if not facts.background)
WITH_BACKGROUND = tuple(name for name, facts in PRINTED.items() if facts.background)
BENCHMARKS = (*WITHOUT_BACKGROUND, *WITH_BACKGROUND)
COLUMNS = {facts.printed: name for name, facts in PRINTED.items()} | {
    "average": "mean of 5",
    "average_printed": "mean of 5",
    "average_of_8": "mean of 8",
}
MODELS = {  # (whose weights, encoder) → short name
    ("CLIP", "ViT-B"): "clip_vitb16",
    ("CLIP", "ViT-L"): "clip_vitl14",
    ("OpenCLIP", "ViT-B"): "openclip_vitb16",
    ("OpenCLIP", "ViT-L"): "openclip_vitl14",
    ("OpenCLIP", "ViT-H"): "openclip_vith14",
    ("MetaCLIP", "ViT-B"): "metaclip_vitb16",
    ("MetaCLIP", "ViT-L"): "metaclip_vitl14",
    ("BLIP", "ViT-B"): "blip_vitb16",
    ("BLIP", "ViT-L"): "blip_vitl16",
}
METHODS = {  # the paper's name → recipe; methods that train, or that are only in part a recipe here, have none
    "CLIP": "clip",
    "MaskCLIP": "maskclip",
    "CLIPSurgery": "clip_surgery",
    "SCLIP": "sclip",
    "SCLIP*": "sclip",
    "GEM": "gem",
    "ClearCLIP": "clearclip",
    "NACLIP": "naclip",
    "ProxyCLIP": "proxyclip",
}
SOURCES = ("table1", "table2", "table3", "table4", "table5", "fig3", "readings", "peers")
VALUES = ["source", "method", "encoder", "origin", "model", "recipe", "dataset", "miou"]


def has_background(dataset: str) -> bool:
    """Whether a dataset has a background class.

    >>> has_background("voc21"), has_background("scenes_background"), has_background("scenes")
    (True, True, False)
    """
    return datasets.facts(dataset).background


def reference(name: str) -> pd.DataFrame:
    """One file of analysis/sweeps/reference as it is.

    >>> reference("table1").average.tolist()
    [27.3, 25.9, 33.7, 37.5]
    """
    if name not in SOURCES:
        raise UserError(f"there are no published numbers {name!r}; choose from {', '.join(SOURCES)}.")
    with (files("analysis.sweeps") / "reference" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


@cache
def table(number: int | str) -> pd.DataFrame:
    """One published table (1 … 5) or another file ("fig3", "peers", "readings"), one row per number.

    Columns: source, method and encoder as printed, origin ("run" by the paper's authors, or quoted), model and recipe under
    this project's names (missing where there is none), dataset (or "mean of 5", "mean of 3", "mean of 8") and mIoU in %.

    >>> table(2).query("method == 'TCL' and dataset == 'voc20'").miou.item()
    77.5
    """
    name = f"table{number}" if isinstance(number, int) else number
    wide = reference(name)
    rows = {
        "table1": _ablation,
        "table4": _pruning,
        "table5": _added,
        "fig3": _features,
        "readings": _readings,
    }.get(name, _methods)(wide)
    if "average" in rows and "VOC21" in rows:
        rows = rows.rename(columns={"average": "mean of 3"})
    rows.insert(0, "source", name.replace("table", "Table ").replace("fig", "Fig. "))
    rows["row"] = range(len(rows))  # a row's numbers stay together, in the printed order
    tidy = rows.rename(columns=COLUMNS).melt([*VALUES[:-2], "row"], var_name="dataset", value_name="miou")
    return tidy.dropna(subset="miou").sort_values("row", kind="stable")[VALUES].reset_index(drop=True)


def _described(rows: pd.DataFrame, **columns: object) -> pd.DataFrame:
    """The numbers of a table with who and what they are about."""
    numbers = [column for column in rows if column in COLUMNS]
    return rows[numbers].assign(**columns)  # type: ignore[arg-type]


def _ablation(wide: pd.DataFrame) -> pd.DataFrame:
    rows = zip(wide.attention, wide.residual == "on", wide.ffn == "on", strict=True)
    names = [recipe_lists.ablation_name(attention, residual, ffn) for attention, residual, ffn in rows]
    return _described(wide, method="CLIP", encoder="ViT-B/16", origin="run", model="clip_vitb16", recipe=names)


def _methods(wide: pd.DataFrame) -> pd.DataFrame:
    """Tables 2 and 3, and the peers: one row per method and encoder."""
    weights = [
        "OpenCLIP" if "laion2b" in name else "MetaCLIP" if "MetaCLIP" in name else "CLIP" for name in wide.encoder
    ]
    sizes = [name.replace("MetaCLIP ", "").split("/")[0] for name in wide.encoder]
    recipes = [METHODS.get(name) for name in wide.method]
    models = [
        MODELS.get((weight, size)) if recipe else None
        for weight, size, recipe in zip(weights, sizes, recipes, strict=True)
    ]
    origin = wide.origin if "origin" in wide else "quoted from its paper"
    return _described(wide, method=wide.method, encoder=wide.encoder, origin=origin, model=models, recipe=recipes)


def _pruning(wide: pd.DataFrame) -> pd.DataFrame:
    names = [
        recipe_lists.NORMALIZED if row == "normalised" else recipe_lists.beta_name(float(row) / 100)
        for row in wide.beta_percent.astype(str)
    ]
    return _described(wide, method="CLIP", encoder="ViT-B/16", origin="run", model="clip_vitb16", recipe=names)


def _added(wide: pd.DataFrame) -> pd.DataFrame:
    """Table 5: a method or a model, without and with ClearCLIP."""
    models, recipes, methods = [], [], []
    for name, encoder, added in zip(wide.model, wide.encoder, wide.clearclip == "yes", strict=True):
        base = METHODS[name] if name in ("MaskCLIP", "SCLIP", "GEM") else None
        models.append(MODELS["CLIP" if base else name, encoder])
        recipes.append((f"{base}+clearclip" if added else base) if base else "clearclip" if added else "clip")
        methods.append(f"{name} + ClearCLIP" if added else name)
    quoted = (wide.model == "MaskCLIP") & (wide.encoder == "ViT-B") & (wide.clearclip == "no")
    origin = quoted.map({True: "quoted from TCL", False: "run"})
    return _described(wide, method=methods, encoder=wide.encoder, origin=origin, model=models, recipe=recipes)


def _features(wide: pd.DataFrame) -> pd.DataFrame:
    return _described(
        wide, method=wide.feature, encoder="ViT-B/16", origin="run", model="clip_vitb16", recipe=wide.feature
    )


def _readings(wide: pd.DataFrame) -> pd.DataFrame:
    """The two means that the text gives; the other readings are about feature maps."""
    means = wide[wide.quantity.str.startswith("average of 5 datasets")]
    names = [
        recipe_lists.ablation_name(words[words.index("CLIP-B/16") + 1], False, False)
        for words in means.quantity.str.split()
    ]
    return _described(
        pd.DataFrame({"average": means.value.astype(float)}),
        method="CLIP",
        encoder="ViT-B/16",
        origin="run",
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
def _numbers() -> dict[tuple[str, str, Recipe], float]:
    """Every published mIoU by model, data set and what is computed."""
    features = [feature_recipe(feature) for feature in FEATURES]
    recipes = [*RECIPES.values(), *recipe_lists.ablation(), *recipe_lists.beta(), *features]
    computed = {recipe.name: recipe.nameless for recipe in recipes}
    numbers: dict[tuple[str, str, Recipe], float] = {}
    rows = everything()
    for model, dataset, name, miou in zip(rows.model, rows.dataset, rows.recipe, rows.miou, strict=True):
        numbers.setdefault((model, dataset, computed[name]), float(miou))
    return numbers


def value(model: str, dataset: str, recipe: str | Recipe) -> float | None:
    """The published mIoU in %, or None. Rows that ClearCLIP's authors ran go before quoted ones.

    `dataset` is a benchmark or a printed "mean of 5" or "mean of 8"; `recipe` is matched by what it computes.

    >>> value("openclip_vitl14", "ade20k", "clearclip"), value("clip_vitb16", "voc20", Recipe("mine", "qq", ffn=False))
    (16.0, 62.8)
    """
    known = RECIPES.get(recipe) if isinstance(recipe, str) else recipe
    return None if known is None else _numbers().get((model, dataset, known.nameless))


def mean(model: str, datasets: Sequence[str], recipe: str | Recipe) -> float | None:
    """The mean of the published mIoU over datasets, or None where one is missing.

    It is computed from the single values; only where the paper gives none of them, the printed mean is taken.

    >>> mean("clip_vitb16", WITHOUT_BACKGROUND, "sclip+clearclip")   # printed as 37.9
    37.02
    """
    single = [value(model, dataset, recipe) for dataset in datasets]
    present = [miou for miou in single if miou is not None]
    if present and len(present) == len(single):
        return round(sum(present) / len(present), 6)
    whole = {frozenset(WITHOUT_BACKGROUND): "mean of 5", frozenset(BENCHMARKS): "mean of 8"}.get(frozenset(datasets))
    return value(model, whole, recipe) if whole else None
