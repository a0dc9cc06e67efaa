"""Every published method as data: what the last block does instead of itself.

out = residual·X_res + alpha·Proj(A·v) + FFN(LN2(·))   → final LN → drop prefix tokens → projection → L2-normalise
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from html import escape
from typing import Any

import xarray as xr

from clearclip.errors import UserError, closest
from clearclip.methods.affinity import Affinity, parse
from clearclip.models.block import FEATURES


@dataclass(frozen=True)
class Recipe:
    """A training-free dense method on a CLIP: one line of data, usable wherever a recipe's name is.

    Every field but the name is a knob. A new knob is a field here and its effect in `clearclip.methods.dense`: Datasets
    write all fields down (`to_coords`), and recipes are read back (`from_coords`) and compared (`same`) by all of them.

    >>> mine = Recipe("mine", affinity="0.5*qq + 0.5*vv", residual=False, ffn=False)
    >>> mine.variant(alpha=2.0).name
    'mine alpha=2.0'
    """

    name: str
    # a product, or a weighted sum of products, see clearclip.methods.affinity; Datasets call it "attention"
    affinity: str = field(default="qk", metadata={"coordinate": "attention"})
    residual: bool = True  # X_res is added
    ffn: bool = True  # FFN(LN2(·)) of the sum is added
    alpha: float = 1.0  # weight of the attention output (paper Fig. 6)
    beta: float = 0.0  # share of X_res's channels that are set to 0, those of the highest mean (paper Table 4)
    normalize_residual: bool = False  # every token of X_res at length 1 (paper Table 4)
    # over how many last blocks a second stream x' ← x' + alpha·Proj(A·v) runs; its q, k, v are the original's
    stream: int = 1
    # read this block, counted from 1 ("logit lens"); None is the last one of any model, and 0 in a Dataset
    layer: int | None = field(default=None, metadata={"attrs": {"long_name": "layer that is read, 0 for the last"}})
    cls_weight: float = 0.0  # this much of the CLS token's feature is added to every patch's

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise UserError(f"recipe {self.name}: beta is a share of the channels between 0 and 1, not {self.beta}.")
        if self.stream < 1 or (self.stream > 1 and (self.ffn or self.beta or self.normalize_residual)):
            raise UserError(
                f"recipe {self.name}: a second stream covers 1 or more blocks and has no FFN and no pruned residual."
            )
        if not math.isfinite(self.alpha) or not math.isfinite(self.cls_weight):
            raise UserError(f"recipe {self.name}: alpha and cls_weight are finite numbers.")
        if not self.residual and self.alpha == 0:
            raise UserError(f"recipe {self.name}: without residual and with alpha 0 nothing is left.")
        self.terms  # noqa: B018  an affinity that cannot be read is refused here

    @property
    def terms(self) -> Affinity:
        """The products of the affinity and their weights."""
        return parse(self.affinity)

    @property
    def formula(self) -> str:
        """What the last block gives out, in the words of the module's first line.

        >>> RECIPES["clip"].formula, RECIPES["clearclip"].formula
        ('X_res + Proj(A[qk]·v) + FFN', 'Proj(A[qq]·v)')
        """
        residual = "norm(X_res)" if self.normalize_residual else "X_res"
        residual += f" without its strongest {100 * self.beta:g} % of channels" if self.beta else ""
        weight = "" if self.alpha == 1 else f"{self.alpha:g}·"
        attention = f"{weight}Proj(A[{self.affinity}]·v)"
        terms = [residual] * self.residual + [attention] * (self.alpha != 0) + ["FFN"] * self.ffn
        cls = f" {'−' if self.cls_weight < 0 else '+'} {abs(self.cls_weight):g}·CLS" if self.cls_weight else ""
        where = f" in layer {self.layer}" if self.layer else ""
        where += f", over the last {self.stream} blocks" if self.stream > 1 else ""
        return " + ".join(terms) + cls + where

    def __repr__(self) -> str:
        return f"Recipe({self.name}: {self.formula})"

    def _repr_html_(self) -> str:
        formula = re.sub(
            r"(X)_(\w+)|(A)\[(.*?)\]",
            lambda m: _sub(*(m.groups()[:2] if m[1] else m.groups()[2:])),
            escape(self.formula),
        )
        return f"<b>{escape(self.name)}</b>: {formula}"

    def variant(self, **changes: object) -> Recipe:
        """The recipe with some knobs turned, and a name that says so unless one is given."""
        name = " ".join([self.name, *(f"{knob}={value}" for knob, value in changes.items())])
        return replace(self, **{"name": name, **changes})  # type: ignore[arg-type]

    def reads(self, depth: int) -> int:
        """The layer whose maps the recipe hands on in a model of this depth, counted from 1."""
        return self.layer or depth

    @property
    def nameless(self) -> Recipe:
        """What the recipe computes: itself without a name, its affinity spelled in one way."""
        return replace(self, name="", affinity=" + ".join(part.strip() for part in self.affinity.split("+")))

    def same(self, other: Recipe) -> bool:
        """Whether two recipes compute the same, whatever they are called.

        >>> RECIPES["clearclip"].same(Recipe("mine", "qq", residual=False, ffn=False))
        True
        """
        return self.nameless == other.nameless

    @staticmethod
    def to_coords(recipes: Sequence[Recipe]) -> dict[str, Any]:
        """The coordinates of a Dataset along `recipe`: the names, and one coordinate for each knob.

        Args:
            recipes: in the order of the dimension.

        Returns: what `xarray.Dataset(coords=…)` and `assign_coords` take.

        >>> coords = Recipe.to_coords([RECIPES["clip"], feature_recipe("X_attn", 7)])
        >>> coords["recipe"], coords["attention"][:2], coords["layer"][:2]
        (['clip', 'X_attn layer 7'], ('recipe', ['qk', 'qk']), ('recipe', [0, 7]))
        """
        coords: dict[str, Any] = {"recipe": [recipe.name for recipe in recipes]}
        for coordinate, knob in _knobs().items():
            values = [getattr(recipe, knob.name) for recipe in recipes]
            written = [0 if value is None else value for value in values]
            coords[coordinate] = ("recipe", written, knob.metadata.get("attrs", {}))
        return coords

    @staticmethod
    def from_coords(dataset: xr.Dataset) -> dict[str, Recipe]:
        """The recipes of a Dataset by name, from its coordinates; a knob that an older file lacks has its default.

        >>> dataset = xr.Dataset(coords=Recipe.to_coords([RECIPES["clip"], feature_recipe("X_attn", 7)]))
        >>> Recipe.from_coords(dataset)["X_attn layer 7"] == feature_recipe("X_attn", 7)
        True
        """
        columns = {
            knob.name: [_unwritten(value, knob.default) for value in dataset[coordinate].values.tolist()]
            for coordinate, knob in _knobs().items()
            if coordinate in dataset.coords
        }
        return {
            name: Recipe(name, **{knob: values[i] for knob, values in columns.items()})
            for i, name in enumerate(dataset.recipe.values.tolist())
        }


def _sub(letter: str, index: str) -> str:
    return f"<i>{letter}</i><sub>{index}</sub>"


def _knobs() -> dict[str, Field[Any]]:
    """The fields of `Recipe` but its name, by what a Dataset calls them."""
    return {field.metadata.get("coordinate", field.name): field for field in fields(Recipe) if field.name != "name"}


def _unwritten(value: Any, default: Any) -> Any:
    """A value from a file as its field had it: of the default's type, and None for 0 where None is the default."""
    return int(value) or None if default is None else type(default)(value)


SWITCH = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
GEM = " + ".join(f"{1 / 3!r}*gem_{letter}" for letter in "vkq")

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("clip"),
        Recipe("maskclip", "identity"),
        Recipe("sclip", "qq + kk"),
        Recipe("clip_surgery", "vv", ffn=False, stream=6),
        Recipe("gem", GEM, ffn=False, stream=6),
        Recipe("clearclip", "qq", residual=False, ffn=False),
        Recipe("maskclip+clearclip", "identity", residual=False, ffn=False),
        Recipe("sclip+clearclip", "qq + kk", residual=False, ffn=False),
        Recipe("gem+clearclip", GEM, residual=False, ffn=False),
        Recipe("naclip", "kk_gaussian", residual=False, ffn=False),
        Recipe("segearth_ov", "qq + kk + vv", residual=False, ffn=False, cls_weight=-0.3),
        # λ = 0.5; its authors tune it between 0.2 and 0.6 per dataset
        Recipe("resclip", "1.0*qq + 1.0*qk_middle", residual=False, ffn=False),
        Recipe("proxyclip", "proxy", residual=False, ffn=False),
    )
}


def recipe(which: str | Recipe) -> Recipe:
    """A recipe by name, by name with some knobs turned, or itself.

    Args:
        which: "clearclip", or "clearclip alpha=2 affinity=kk" with any field of `Recipe`.

    Raises: `UserError` with the closest names, for an unknown knob, or for a value that a knob cannot have.

    >>> recipe("clearclip").residual
    False
    >>> recipe("clearclip alpha=2 affinity=kk").same(RECIPES["clearclip"].variant(alpha=2.0, affinity="kk"))
    True
    """
    if isinstance(which, Recipe):
        return which
    name, *turned = _words(which) if which not in RECIPES else [which]
    if name not in RECIPES:
        raise UserError(
            f"unknown recipe {which!r}. Closest: {closest(name, list(RECIPES))}. Known: {', '.join(RECIPES)}."
        )
    return replace(RECIPES[name], name=which, **dict(_turned(which, word) for word in turned))


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text) or [text]
    except ValueError as error:
        raise UserError(f"recipe {text!r} cannot be read: {error}.") from error


def _turned(text: str, word: str) -> tuple[str, Any]:
    """A knob and its value from "alpha=2"."""
    knob, equals, value = word.partition("=")
    knobs = {knob.name: knob for knob in _knobs().values()}
    if not equals or knob not in knobs:
        raise UserError(
            f"recipe {text!r}: {word!r} is not a knob and its value, as in alpha=2. The knobs are {', '.join(knobs)}."
        )
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
