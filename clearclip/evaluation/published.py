"""The published numbers of methods and models; they lie as data in clearclip/evaluation/reference, with their origin."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

from clearclip.datasets import BENCHMARKS
from clearclip.errors import UserError
from clearclip.evaluation.protocol import CLEARCLIP
from clearclip.methods.recipes import RECIPES
from clearclip.methods.titles import AUTHORS_PROTOCOL

COLUMNS = {kind.facts.printed: name for name, kind in BENCHMARKS.items() if kind.facts.printed} | {
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
    "NACLIP+ResCLIP": "resclip",
    "ClearCLIP+ResCLIP": "resclip+clearclip",
    "LPOSS+": "lposs+",
    "ProxyCLIP": "proxyclip",
    "SC-CLIP": "sc_clip",
    "SFP": "sfp",
}
SOURCES = ("table1", "table2", "table3", "table4", "table5", "fig3", "readings", "peers")
BLIP_WEIGHTS = {"ViT-B": "model_base_14M.pth", "ViT-L": "model_large.pth"}  # not the COCO retrieval weights of the hub
VALUES = ["source", "method", "encoder", "origin", "protocol", "model", "recipe", "dataset", "miou"]


class Printed(NamedTuple):
    """A published mIoU in percent: its table, its row there, and who measured it ("run" by ClearCLIP's authors, or quoted)."""

    miou: float
    source: str
    method: str
    origin: str

    @property
    def own(self) -> bool:
        """Whether ClearCLIP's authors measured it themselves, under the protocol that this package follows."""
        return self.origin.startswith("run")


def reference(name: str) -> pd.DataFrame:
    """One file of clearclip/evaluation/reference as it is.

    >>> reference("table1").average.tolist()
    [27.3, 25.9, 33.7, 37.5]
    """
    if name not in SOURCES:
        raise UserError(f"there are no published numbers {name!r}; choose from {', '.join(SOURCES)}.")
    with (files("clearclip.evaluation") / "reference" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def tidy(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a file with one row for each number, in the columns `VALUES`."""
    if "average" in rows and "VOC21" in rows:
        rows = rows.rename(columns={"average": "mean of 3"})
    if "source" not in rows:
        rows.insert(0, "source", name.replace("table", "Table ").replace("fig", "Fig. "))
    rows["row"] = range(len(rows))  # a row's numbers stay together, in the printed order
    tidy = rows.rename(columns=COLUMNS).melt([*VALUES[:-2], "row"], var_name="dataset", value_name="miou")
    return tidy.dropna(subset="miou").sort_values("row", kind="stable")[VALUES].reset_index(drop=True)


@cache
def printed(model: str, dataset: str) -> dict[str, Printed]:
    """The published numbers of a model on a benchmark by recipe, those that ClearCLIP's authors ran before quoted ones.

    >>> rows = printed("clip_vitb16", "voc20")
    >>> rows["clearclip"].miou, rows["sclip"].method, rows["maskclip"].origin
    (80.9, 'SCLIP*', 'quoted from TCL')
    """
    tables = {"table2": methods, "table3": methods, "table5": added}
    rows = pd.concat([tidy(name, read(reference(name))) for name, read in tables.items()])
    rows = rows[(rows.model == model) & (rows.dataset == dataset)]
    rows = rows.assign(rank=[not origin.startswith("run") for origin in rows.origin]).sort_values("rank", kind="stable")
    numbers: dict[str, Printed] = {}
    for recipe, miou, *about in rows[["recipe", "miou", "source", "method", "origin"]].values.tolist():
        numbers.setdefault(recipe, Printed(miou, *about))
    return numbers


def described(rows: pd.DataFrame, **columns: object) -> pd.DataFrame:
    """The numbers of a table with who and what they are about."""
    numbers = [column for column in rows if column in COLUMNS]
    return rows[numbers].assign(**columns)  # type: ignore[arg-type]


def methods(wide: pd.DataFrame) -> pd.DataFrame:
    """Tables 2 and 3, and the peers: one row per method and encoder."""
    weights = [
        "OpenCLIP" if "laion2b" in name else "MetaCLIP" if "MetaCLIP" in name else "CLIP" for name in wide.encoder
    ]
    sizes = [name.replace("MetaCLIP ", "").split("/")[0] for name in wide.encoder]
    recipes = [name if (name := METHODS.get(method)) in RECIPES else None for method in wide.method]
    models = [
        MODELS.get((weight, size)) if recipe else None
        for weight, size, recipe in zip(weights, sizes, recipes, strict=True)
    ]
    about: dict[str, object] = {name: wide[name].fillna("") for name in ("protocol", "source") if name in wide}
    if "origin" in wide:
        places = zip(wide.origin, recipes, strict=True)
        about["protocol"] = [protocol_of(origin, recipe) for origin, recipe in places]
    about["origin"] = wide.origin if "origin" in wide else "quoted from its paper"
    return described(wide, method=wide.method, encoder=wide.encoder, model=models, recipe=recipes, **about)


def protocol_of(origin: str, recipe: str | None) -> str:
    """The protocol of a row of ClearCLIP's tables: ClearCLIP's if its authors ran it, or that of a quoted method's authors.

    It is "" where that is not among `clearclip.evaluation.protocol.PROTOCOLS`.

    >>> [protocol_of(origin, "sclip") for origin in ("run without class renaming", "quoted", "quoted from TCL")]
    ['clearclip', 'sclip', '']
    """
    if origin.startswith("run"):
        return CLEARCLIP
    return AUTHORS_PROTOCOL.get(recipe or "", "") if origin == "quoted" else ""


def added(wide: pd.DataFrame) -> pd.DataFrame:
    """Table 5: a method or a model, without and with ClearCLIP."""
    models, recipes, methods = [], [], []
    for name, encoder, added in zip(wide.model, wide.encoder, wide.clearclip == "yes", strict=True):
        base = METHODS[name] if name in ("MaskCLIP", "SCLIP", "GEM") else None
        models.append(MODELS["CLIP" if base else name, encoder])
        recipes.append((f"{base}+clearclip" if added else base) if base else "clearclip" if added else "clip")
        methods.append(f"{name} + ClearCLIP" if added else name)
    quoted = (wide.model == "MaskCLIP") & (wide.encoder == "ViT-B") & (wide.clearclip == "no")
    origin = quoted.map({True: "quoted from TCL", False: "run"})
    protocol = [protocol_of(row, None) for row in origin]
    origin = origin.mask(wide.model == "BLIP", "run with the weights " + wide.encoder.map(BLIP_WEIGHTS))
    return described(
        wide, method=methods, encoder=wide.encoder, origin=origin, protocol=protocol, model=models, recipe=recipes
    )
