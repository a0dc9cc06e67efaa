"""Every published method by name, and what may be written where a recipe is asked for."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from clearclip.errors import UserError, closest
from clearclip.methods.recipe import Recipe
from clearclip.methods.recipe import knobs as all_knobs
from clearclip.methods.settings import resclip
from clearclip.methods.stages import (
    AddCls,
    Aggregate,
    AggregateAfter,
    AggregateWhole,
    Branch,
    MergeRegions,
    Pamr,
    PatchesOnly,
    Propagate,
    PropagatePixels,
    RegionCls,
    Repair,
    Scga,
    Surgery,
    Vote,
    write,
)
from clearclip.methods.stages.outliers import LocalOutliers, SeenByCls
from clearclip.methods.stages.stage import Stage
from clearclip.models.block import FEATURES

__all__ = ["RECIPES", "Recipe", "feature_recipe", "recipe", "recipes"]

SWITCH = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
GEM = " + ".join(f"{1 / 3!r}*gem_{letter}" for letter in "vkq")

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("clip"),
        Recipe("maskclip", "identity"),
        Recipe("sclip", "qq + kk"),
        Recipe("clip_surgery", "vv", ffn=False, stream=6, stages=(Surgery(),)),
        Recipe("gem", GEM, ffn=False, stream=6),
        Recipe("clearclip", "qq", residual=False, ffn=False),
        Recipe("maskclip+clearclip", "identity", residual=False, ffn=False),
        Recipe("sclip+clearclip", "qq + kk", residual=False, ffn=False),
        Recipe("gem+clearclip", GEM, residual=False, ffn=False),
        Recipe("naclip", "kk_gaussian", residual=False, ffn=False),
        Recipe("segearth_ov", "qq + kk + vv", residual=False, ffn=False, cls_weight=-0.3),
        *resclip().values(),
        Recipe("resclip_rcs+clearclip", "1.0*qq + 1.0*qk_middle", residual=False, ffn=False),  # λ = 0.5
        Recipe("itaclip", "0.5*qq + 0.5*kk + 0.5*Middle(blocks=(7, 8, 10), pairs='qq kk')", ffn=False),
        Recipe("scra", "Recursive()"),
        Recipe("proxyclip", "proxy", residual=False, ffn=False),
        Recipe("trident", "Proxy(together=True)", residual=False, ffn=False, stages=(AggregateWhole(),)),
        Recipe("lposs", "identity", stages=(Propagate(),)),
        Recipe("lposs+", "identity", stages=(Propagate(), PropagatePixels())),
        Recipe(
            "sc_clip",
            "0.5*Similarity() + 0.5*kk",
            residual=False,
            ffn=False,
            stages=(
                PatchesOnly(),
                Repair(LocalOutliers(), also=(9,)),
                Aggregate(layer=9),
                AddCls(0.3),
                AggregateAfter(layer=4),
                Branch(blocks=(4, 5, 6, 7, 8, 9, 10)),
            ),
        ),
        Recipe(
            "sfp",
            f"{1 / 3!r}*Similarity(cut=0.4) + {1 / 3!r}*kk + {1 / 3!r}*qq",
            residual=False,
            ffn=False,
            stages=(
                PatchesOnly(),
                Repair(SeenByCls(), also=(9,), surrounded="zero"),
                Aggregate(layer=9),
                AddCls(0.3),
                AggregateAfter(layer=4),
                Branch(blocks=(4, 5, 6, 7, 8, 9, 10), affinity="Similarity(cut=0.4)"),
            ),
        ),
        Recipe(
            "corrclip",
            "Correlation()",
            residual=False,
            ffn=False,
            stages=(
                MergeRegions(),
                Branch(blocks=(6, 7, 8, 9, 10), how="mean", normed=True),
                RegionCls(0.5),
                Vote(),
            ),
        ),
        Recipe("oracle", "Oracle()", residual=False, ffn=False),
    )
}

# stages that may be added to any recipe, as in clearclip+pamr
ADDITIONS: dict[str, Stage] = {"pamr": Pamr(), "surgery": Surgery(), "scga": Scga()}


def recipe(which: str | Recipe) -> Recipe:
    """A recipe by name, by name with additions and with some knobs turned, or itself.

    Args:
        which: "clearclip", "clearclip+pamr" with any of `ADDITIONS`, or "clearclip alpha=2 affinity=kk" with any field of
            `Recipe`.

    Raises: `UserError` with the closest names, for an unknown knob, or for a value that a knob cannot have.

    >>> recipe("clearclip").residual
    False
    >>> recipe("clearclip alpha=2 affinity=kk").same(RECIPES["clearclip"].variant(alpha=2.0, affinity="kk"))
    True
    """
    if isinstance(which, Recipe):
        return which
    name, *turned = _words(which) if which not in RECIPES else [which]
    added: list[Stage] = []
    while name not in RECIPES and name.rpartition("+")[2] in ADDITIONS:
        name, _, addition = name.rpartition("+")
        added.insert(0, ADDITIONS[addition])
    if name not in RECIPES:
        raise UserError(
            f"unknown recipe {which!r}. Closest: {closest(name, list(RECIPES))}. Known: {', '.join(RECIPES)}. "
            f"To each may be added: {', '.join(f'+{addition}' for addition in ADDITIONS)}."
        )
    known = replace(RECIPES[name], name=which, **dict(_turned(which, word) for word in turned))
    stages = (*known.stages, *added)
    if len(set(stages)) != len(stages):
        raise UserError(f"recipe {which!r}: no stage twice, and {name} has {write(known.stages) or 'none yet'}.")
    return replace(known, stages=stages)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text) or [text]
    except ValueError as error:
        raise UserError(f"recipe {text!r} cannot be read: {error}.") from error


def _turned(text: str, word: str) -> tuple[str, Any]:
    """A knob and its value from "alpha=2"."""
    knob, equals, value = word.partition("=")
    knobs = {knob.name: knob for knob in all_knobs().values()}
    if not equals or knob not in knobs:
        raise UserError(
            f"recipe {text!r}: {word!r} is not a knob and its value, as in alpha=2. The knobs are {', '.join(knobs)}."
        )
    if "read" in knobs[knob].metadata:
        return knob, knobs[knob].metadata["read"](value)
    default = knobs[knob].default
    kind: type = int if default is None else type(default)
    try:
        return knob, SWITCH[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError) as error:
        allowed = {bool: "yes or no", int: "a whole number", float: "a number"}[kind]
        raise UserError(f"recipe {text!r}: {knob} is {allowed}, not {value!r}.") from error


def recipes(which: Iterable[str | Recipe]) -> list[Recipe]:
    """Several recipes, each with a name of its own."""
    known = [recipe(name) for name in which]
    names = [method.name for method in known]
    if not known or len(set(names)) != len(names):
        raise UserError(f"recipes {names}: at least one, and each name once.")
    return known


def every_recipe(guide: bool) -> list[Recipe]:
    """All of `RECIPES`; without a second model, a warning names those that need one and are left out.

    Args:
        guide: whether there is a second model.

    >>> len(every_recipe(guide=True)) == len(RECIPES)
    True
    """
    left_out = [name for name, known in RECIPES.items() if known.needs_guide and not guide]
    if left_out:
        warnings.warn(f"without --proxy there is no {', '.join(left_out)}: they need a second model", stacklevel=2)
    return [known for name, known in RECIPES.items() if name not in left_out]


def feature_recipe(feature: str, layer: int | None = None, affinity: str = "qk") -> Recipe:
    """Patch features straight from X_res, X_attn or X_sum of a layer (paper Figs. 1 and 3; any layer: a "logit lens").

    >>> feature_recipe("X_attn", layer=7).name
    'X_attn layer 7'
    """
    if feature not in FEATURES:
        raise UserError(f"feature {feature!r}: choose from {', '.join(FEATURES)}.")
    return Recipe(
        feature if layer is None else f"{feature} layer {layer}",
        affinity,
        residual=feature != "X_attn",
        alpha=0.0 if feature == "X_res" else 1.0,
        ffn=False,
        layer=layer,
    )
