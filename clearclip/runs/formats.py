"""What each kind of result holds: the norm, as one table. Readers check files against it, and docs/format.md is written from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

VERSION = 1  # the major version of all formats: a file of a newer one is refused


@dataclass(frozen=True)
class Values:
    """What a variable or a coordinate holds; nothing is ever infinite.

    `kinds` are NumPy's letters of data types, U for text. Where `missing`, NaN stands for what a model or a data set lacks.
    Where `ascending`, each value is above the one before. If there are `names`, only they are allowed, and where `complete`,
    each is needed. An `index` counts along that dimension, from 0.
    """

    kinds: str
    low: float = -math.inf
    high: float = math.inf
    missing: bool = False
    names: tuple[str, ...] = ()
    complete: bool = False
    ascending: bool = False
    index: str = ""

    @property
    def words(self) -> str:
        """Which values are allowed, or nothing.

        >>> Values("f", 0, 100).words, Values("i", 1).words, FEATURES.words
        ('0 … 100', '1 or more', 'of X_res, X_attn, X_sum')
        """
        if self.names:
            return f"of {', '.join(self.names)}"
        if math.isfinite(self.high):
            return f"{self.low:g} … {self.high:g}"
        return f"{self.low:g} or more" if math.isfinite(self.low) else ""


TEXT, SWITCH, PIXEL = Values("U"), Values("b"), Values("u", 0, 255)
NUMBER = Values("fiu", missing=True)
SIZE = replace(NUMBER, low=0)
SHARE = replace(NUMBER, low=0, high=1)
PERCENT = replace(NUMBER, low=0, high=100)
COSINE = replace(NUMBER, low=-1, high=1)
COUNT, WHOLE = Values("fiu", 0), Values("iu", 0)
FROM_0, FROM_1 = replace(WHOLE, ascending=True), Values("iu", 1, ascending=True)
FEATURES = Values("U", names=("X_res", "X_attn", "X_sum"))
ALL_FEATURES = replace(FEATURES, complete=True)


@dataclass(frozen=True)
class Variable:
    """A variable or coordinate of a Dataset. Where `filled`, every model, data set and picture has a value that is not NaN."""

    dims: tuple[str, ...]
    values: Values
    units: str = ""
    needed: bool = True
    filled: bool = False
    attrs: tuple[str, ...] = ()  # whole numbers that are kept as its attributes


Attribute = Literal["text", "count", "list", "object"]  # the last two as JSON


@dataclass(frozen=True)
class Format:
    """One kind of result.

    Args:
        title: what such a file holds.
        commands: what writes it, after python -m.
        mark: a dimension ("dims") or variable ("data_vars") that no kind further down in `FORMATS` has.
        labels: the coordinates of dimensions; a dimension without any has none.
        needed: the dimensions that every file has.
        variables: the data.
        about: coordinates along dimensions that say more about them.
        others: the dimensions that numbers of the user's own may have; none where they are no part of the format.
        attributes: those that every file has.
    """

    title: str
    commands: tuple[str, ...]
    mark: tuple[Literal["dims", "data_vars"], str]
    labels: Mapping[str, Values]
    needed: tuple[str, ...]
    variables: Mapping[str, Variable]
    about: Mapping[str, Variable]
    others: tuple[tuple[str, ...], ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def command(self) -> str:
        """What writes such a file, for messages.

        >>> FORMATS["prototypes"].command
        'python -m analysis.prototypes'
        """
        *others, last = self.commands
        return "python -m " + (f"{', '.join(others)} or {last}" if others else last)


EVERY: dict[str, Attribute] = {"libraries": "text", "created": "text", "command": "text"}
OPTIONAL: dict[str, Attribute] = {
    "options": "object",
    "skipped": "list",
    "skipped_images": "count",
    "prompts": "text",
    "text_embeddings": "text",
    "text_embeddings_sha256": "text",
    "floss": "count",
    "dataset": "text",
    "halves": "text",
    "compiled": "text",
}
PICTURES: dict[str, Attribute] = {"images": "count", "image_list_sha256": "text"}

ABOUT_MODEL = {
    **dict.fromkeys(("architecture", "weights", "weights_sha256"), Variable(("model",), TEXT)),
    "random_weights": Variable(("model",), SWITCH),
    "positions": Variable(("model",), TEXT, needed=False),  # which files of the first release lack
    "interventions": Variable(("model",), TEXT, needed=False),  # likewise
    **dict.fromkeys(("precision", "preprocessing"), Variable(("model",), TEXT)),
    "patch_size": Variable(("model",), replace(WHOLE, low=1), "pixels"),
    "prefix_tokens": Variable(("model",), WHOLE),
}
ABOUT_PICTURES = {
    **dict.fromkeys(("image_size", "rows", "columns"), Variable(("model",), replace(WHOLE, low=1))),
    "source": Variable(("image",), TEXT),
}
ABOUT_STREAM = {
    **{name: variable for name, variable in ABOUT_PICTURES.items() if name != "source"},
    "source": Variable(("model",), TEXT),
    "pictures": Variable(("model",), replace(WHOLE, low=1)),
}
ABOUT_DATASET = dict.fromkeys(("split", "data_sha256"), Variable(("dataset",), TEXT))
KNOBS = {  # of recipes; what an older file lacks has its default
    name: Variable(("recipe",), values, needed=False)
    for name, values in {
        "attention": TEXT,
        "residual": SWITCH,
        "ffn": SWITCH,
        "alpha": replace(NUMBER, missing=False),
        "beta": replace(SHARE, missing=False),
        "normalize_residual": SWITCH,
        "stream": replace(WHOLE, low=1),
        "layer": WHOLE,
        "cls_weight": replace(NUMBER, missing=False),
        "resize_positions": TEXT,
        "stages": TEXT,
    }.items()
}

COMPONENTS = {
    "kind": Variable(
        ("component",), Values("U", names=("embedding", "head", "ffn", "bias", "intervention", "norm", "pool"))
    ),
    **dict.fromkeys(("layer", "head"), Variable(("component",), WHOLE)),  # 0 for none
}
SITES = ("model", "image", "layer", "feature", "tokens")
MOMENTS = ("model", "moment", "layer", "feature", "tokens")
CHANNELS, TOKENS = ("model", "layer", "feature", "tokens", "channel"), ("model", "layer", "feature", "tokens", "token")
CELLS = ("model", "dataset", "recipe")
RANKED = ("model", "image", "layer", "feature", "rank")
MAPS = ("model", "dataset", "layer", "feature", "similarity")
HEADS, OF_HEADS = ("model", "layer", "head"), ("model", "dataset", "layer", "head", "similarity")
PHOTO = Variable(("model", "image", "y", "x", "rgb"), PIXEL)
MODELS = {"model": TEXT}
IMAGES = {"model": TEXT, "image": TEXT, "layer": FROM_1}
ABOUT_SITES = {
    "feature": FEATURES,
    "tokens": Values("U", names=("patches", "all"), complete=True),
    "channel": FROM_0,
    "token": FROM_0,
}
GRID = {"row": FROM_0, "column": FROM_0}
QUERY = {
    "query_row": Variable(("model",), Values("iu", -1, index="row")),
    "query_column": Variable(("model",), Values("iu", -1, index="column")),
}


def _of_sites(values: Values, units: str, *names: str, dims: tuple[str, ...]) -> dict[str, Variable]:
    return dict.fromkeys(names, Variable(dims, values, units, needed=False, filled=True))


def _statistics(sites: tuple[str, ...]) -> dict[str, Variable]:
    """Those of single pictures at these sites, and those that are means over pictures."""
    return {
        **_of_sites(SHARE, "1", "entropy", dims=sites),
        **_of_sites(NUMBER, "model units", "maximum", dims=sites),
        **_of_sites(SIZE, "model units", "frobenius_norm", dims=sites),
        **_of_sites(SHARE, "1", "outlier_share", "channel_dominance", dims=sites),
        **_of_sites(SIZE, "1", "norm_ratio", "effective_rank", dims=sites),
        **_of_sites(COSINE, "1", "mean_cosine", dims=sites),
        **_of_sites(NUMBER, "1", "channel_mean_sorted", dims=CHANNELS),
        **_of_sites(NUMBER, "model units", "channel_mean", dims=CHANNELS),
        **_of_sites(SHARE, "1", "outlier_rate", dims=TOKENS),
        **_of_sites(SIZE, "model units", "token_norm", dims=TOKENS),
    }


def _scores(dims: tuple[str, ...]) -> dict[str, Variable]:
    return {
        "iou": Variable((*dims, "class"), PERCENT, "%"),
        **dict.fromkeys(("intersection", "union"), Variable((*dims, "class"), SIZE, "pixels")),
        "miou": Variable(dims, PERCENT, "%", filled=True),
        "pixel_accuracy": Variable(dims, PERCENT, "%"),
        "images": Variable(("model", "dataset"), COUNT, "1"),
    }


def _prototypes(dims: tuple[str, ...]) -> dict[str, Variable]:
    return {
        **_scores(dims),
        "prototype_images": Variable(("model", "dataset"), COUNT, "1"),
        "prototype_patches": Variable(("model", "dataset", "class"), SIZE, "patches"),
    }


FORMATS = {  # what the attribute `format` calls it → the kind
    "stream statistics": Format(
        "statistics of a stream of pictures",
        ("analysis.statistics --images webdataset:…",),
        ("dims", "moment"),
        MODELS | {"moment": Values("U", names=("mean", "std"), complete=True), "layer": FROM_1} | ABOUT_SITES,
        MOMENTS,
        _statistics(MOMENTS),
        ABOUT_MODEL | ABOUT_STREAM,
        (MOMENTS, CHANNELS, TOKENS),
        EVERY | PICTURES,
    ),
    "statistics": Format(
        "statistics",
        ("analysis.entropy", "analysis.maxima", "analysis.channels", "analysis.norms", "analysis.tokens"),
        ("dims", "tokens"),
        IMAGES | ABOUT_SITES,
        SITES,
        _statistics(SITES),
        ABOUT_MODEL | ABOUT_PICTURES,
        (SITES, CHANNELS, TOKENS),
        EVERY | PICTURES,
    ),
    "label maps": Format(
        "label maps",
        ("analysis.maps",),
        ("data_vars", "labels"),
        MODELS | {"recipe": TEXT, "image": TEXT, "class": TEXT, "rgb": TEXT},
        ("model", "recipe", "image", "row", "column", "rgb", "class"),
        {
            "picture": Variable(("image", "row", "column", "rgb"), PIXEL, "gray levels"),
            "labels": Variable(
                ("model", "recipe", "image", "row", "column"),
                Values("u", 0, index="class"),
                "class index",
                attrs=("not_labelled",),
            ),
            "truth": Variable(
                ("image", "row", "column"),
                Values("u", 0, index="class"),
                "class index",
                needed=False,
                attrs=("not_labelled",),
            ),
            "pixel_accuracy": Variable(("model", "recipe", "image"), PERCENT, "%", needed=False),
        },
        ABOUT_MODEL | KNOBS | dict.fromkeys(("height", "width"), Variable(("image",), Values("iu", 1), "pixels")),
        attributes=EVERY | {"images": "count"},
    ),
    "sweep": Format(
        "a sweep",
        (
            "clearclip.evaluate",
            *(f"analysis.{name}" for name in ("ablation", "alpha", "beta", "compare", "layers", "norms --miou")),
        ),
        ("dims", "recipe"),
        MODELS | {"dataset": TEXT, "image": TEXT, "recipe": TEXT, "class": TEXT, "predicted": TEXT},
        (*CELLS, "class"),
        {
            **_scores(CELLS),
            **dict.fromkeys(("x_res_norm", "x_attn_norm"), Variable(CELLS, SIZE, "model units", needed=False)),
            "threshold": Variable(("dataset", "recipe"), SHARE, "1"),
            "scale": Variable(("dataset", "recipe"), SIZE, "1", needed=False),
            "confusion": Variable((*CELLS, "class", "predicted"), WHOLE, "pixels", needed=False),
            **dict.fromkeys(
                ("image_intersection", "image_union"),
                Variable(("model", "dataset", "image", "recipe", "class"), WHOLE, "pixels", needed=False),
            ),
        },
        ABOUT_MODEL
        | KNOBS
        | ABOUT_DATASET
        | {
            "windows": Variable(("dataset",), TEXT),
            "protocol": Variable(("dataset",), TEXT, needed=False),
            "templates": Variable(("model", "dataset"), TEXT, needed=False),
        },
        attributes=EVERY,
    ),
    "attribution": Format(
        "attribution",
        ("analysis.attribution",),
        ("data_vars", "attribution"),
        {"model": TEXT, "image": TEXT, "direction": TEXT, "component": TEXT} | GRID,
        ("model", "image", "direction", "component", "row", "column", "y", "x", "rgb"),
        {
            "attribution": Variable(
                ("model", "image", "direction", "component", "row", "column"), NUMBER, "1", filled=True
            ),
            "score": Variable(("model", "image", "direction", "row", "column"), NUMBER, "1", filled=True),
            "taken": Variable(("model", "image", "direction", "component", "row", "column"), NUMBER, "1", needed=False),
            "taken_before": Variable(("model", "image", "direction", "component"), NUMBER, "1", needed=False),
            "photo": PHOTO,
        },
        ABOUT_MODEL | ABOUT_PICTURES | COMPONENTS | {"recipe": Variable(("model",), TEXT)},
        attributes=EVERY | PICTURES,
    ),
    "components": Format(
        "the worth of components",
        ("analysis.components",),
        ("data_vars", "auc_without"),
        MODELS | {"dataset": TEXT, "component": TEXT, "class": TEXT},
        ("model", "dataset", "component", "class"),
        {
            **dict.fromkeys(
                ("auc", "auc_without"), Variable(("model", "dataset", "component", "class"), SHARE, "1", filled=True)
            ),
            **dict.fromkeys(
                ("miou", "miou_without"), Variable(("model", "dataset", "component"), PERCENT, "%", filled=True)
            ),
            "miou_whole": Variable(("model", "dataset"), PERCENT, "%", filled=True),
            "class_images": Variable(("model", "dataset", "class"), COUNT, "1"),
            "images": Variable(("model", "dataset"), COUNT, "1"),
        },
        ABOUT_MODEL | ABOUT_DATASET | COMPONENTS | dict.fromkeys(("recipe", "directions"), Variable(("model",), TEXT)),
        attributes=EVERY,
    ),
    "attention": Format(
        "attention maps",
        ("analysis.attention",),
        ("data_vars", "attention"),
        IMAGES | {"affinity": Values("U", names=("qk", "qq", "kk", "vv")), "head": Values("iu", 1)} | GRID,
        ("model", "image", "layer", "affinity", "head", "row", "column", "y", "x", "rgb"),
        {
            "attention": Variable(
                ("model", "image", "layer", "affinity", "head", "row", "column"), SHARE, "1", filled=True
            ),
            "photo": PHOTO,
        },
        ABOUT_MODEL | ABOUT_PICTURES | {"query": Variable(("model",), TEXT)} | QUERY,
        attributes=EVERY | PICTURES,
    ),
    "peaks": Format(
        "peaks",
        ("analysis.peaks",),
        ("data_vars", "peak"),
        IMAGES
        | {"feature": Values("U", names=("X_res", "X_attn", "X_sum", "X_out"), complete=True), "rank": FROM_1}
        | {"component": Values("U", names=("embedding", "attention", "ffn", "bias", "intervention"), complete=True)}
        | {"head": FROM_1, "top": FROM_1},
        ("model", "image", "layer", "feature", "rank", "component", "head", "top", "y", "x", "rgb"),
        {
            "peak": Variable(RANKED, NUMBER, "model units", filled=True),
            **dict.fromkeys(("peak_channel", "peak_token", "peak_row", "peak_column"), Variable(RANKED, SIZE, "1")),
            "peak_share": Variable(RANKED, SHARE, "1"),
            "median": Variable(RANKED[:-1], SIZE, "model units", filled=True),
            "written": Variable(("model", "image", "layer", "component"), NUMBER, "model units", filled=True),
            "written_by_head": Variable(("model", "image", "layer", "head"), NUMBER, "model units", filled=True),
            "neuron_layer": Variable(("model", "top"), Values("iu", 1), "1"),
            "neuron": Variable(("model", "top"), WHOLE, "1"),
            "neuron_activation": Variable(("model", "image", "top"), NUMBER, "1", filled=True),
            "neuron_weight": Variable(("model", "image", "top"), NUMBER, "model units", filled=True),
            "written_by_neuron": Variable(("model", "image", "top"), NUMBER, "model units", filled=True),
            "photo": PHOTO,
        },
        ABOUT_MODEL
        | ABOUT_PICTURES
        | {"asked_layer": Variable(("model",), Values("iu", 1)), "asked_feature": Variable(("model",), TEXT)}
        | {"among": Variable(("model",), TEXT)},
        attributes=EVERY | PICTURES,
    ),
    "texts of heads": Format(
        "texts of heads",
        ("analysis.textspan",),
        ("data_vars", "variance_share"),
        MODELS | {"layer": FROM_1, "head": FROM_1, "rank": FROM_1},
        (*HEADS, "rank"),
        {
            "text": Variable((*HEADS, "rank"), TEXT, "text"),
            "variance_share": Variable((*HEADS, "rank"), SHARE, "1"),
            "variance": Variable(HEADS, SIZE, "1"),
        },
        ABOUT_MODEL
        | dict.fromkeys(("image_size", "rows", "columns"), Variable(("model",), replace(WHOLE, low=1)))
        | dict.fromkeys(("pool", "pool_sha256"), Variable(("model",), TEXT))
        | {"pool_size": Variable(("model",), replace(WHOLE, low=1))},
        attributes=EVERY | PICTURES | {"tokens": "text"},
    ),
    "head prototypes": Format(
        "prototype results of heads",
        ("analysis.prototypes --heads",),
        ("dims", "head"),
        MODELS
        | {"dataset": TEXT, "layer": FROM_1, "head": FROM_1}
        | {"similarity": Values("U", names=("cosine", "standardised")), "class": TEXT},
        (*OF_HEADS, "class"),
        _prototypes(OF_HEADS),
        ABOUT_MODEL | ABOUT_DATASET | {"short_side": Variable(("model",), Values("iu", 1), "pixels")},
        attributes=EVERY,
    ),
    "prototypes": Format(
        "prototype results",
        ("analysis.prototypes",),
        ("dims", "similarity"),
        MODELS
        | {"dataset": TEXT, "layer": FROM_1, "feature": ALL_FEATURES}
        | {"similarity": Values("U", names=("cosine", "standardised")), "class": TEXT},
        (*MAPS, "class"),
        _prototypes(MAPS),
        ABOUT_MODEL | ABOUT_DATASET | {"short_side": Variable(("model",), Values("iu", 1), "pixels")},
        attributes=EVERY,
    ),
    "feature maps": Format(
        "feature maps",
        ("analysis.featuremaps",),
        ("data_vars", "feature_map"),
        IMAGES | {"feature": FEATURES, "token": FROM_0, "channel": FROM_0},
        ("model", "image", "layer", "feature", "token", "channel"),
        {
            "feature_map": Variable(
                ("model", "image", "layer", "feature", "token", "channel"), NUMBER, "model units", filled=True
            )
        },
        ABOUT_MODEL | ABOUT_PICTURES,
        attributes=EVERY | PICTURES,
    ),
    "PCA maps": Format(
        "PCA maps",
        ("analysis.pca",),
        ("data_vars", "pca"),
        IMAGES | {"feature": FEATURES, "component": FROM_1} | GRID,
        ("model", "image", "layer", "feature", "row", "column", "component", "y", "x", "rgb"),
        {
            "pca": Variable(
                ("model", "image", "layer", "feature", "row", "column", "component"), NUMBER, "model units", filled=True
            ),
            "explained_variance": Variable(("model", "layer", "feature", "component"), SIZE, "model units squared"),
            "explained_variance_ratio": Variable(("model", "layer", "feature", "component"), SHARE, "1"),
            "photo": PHOTO,
        },
        ABOUT_MODEL | ABOUT_PICTURES,
        attributes=EVERY | PICTURES | {"pca_of": "text"},
    ),
    "similarity": Format(
        "similarity maps",
        ("analysis.similarity",),
        ("data_vars", "similarity"),
        IMAGES | {"feature": FEATURES} | GRID,
        ("model", "image", "layer", "feature", "row", "column", "y", "x", "rgb"),
        {
            "similarity": Variable(("model", "image", "layer", "feature", "row", "column"), COSINE, "1", filled=True),
            "photo": PHOTO,
        },
        ABOUT_MODEL | ABOUT_PICTURES | QUERY,
        attributes=EVERY | PICTURES,
    ),
}
