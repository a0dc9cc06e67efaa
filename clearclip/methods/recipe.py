"""Recipe: what the last block does instead of itself, as data.

out = residual·X_res + alpha·Proj(A·v) + FFN(LN2(·))   → final LN → drop prefix tokens → projection → L2-normalise

Stages stand before, beside and after that block, and after the projection.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields, replace
from functools import cached_property
from html import escape
from typing import Any

import xarray as xr

from clearclip.errors import UserError
from clearclip.interventions.change import Change
from clearclip.methods import stages
from clearclip.methods.affinity import Affinity, parse, parts, split
from clearclip.methods.products.product import Product
from clearclip.methods.stages.intervene import Intervene
from clearclip.methods.stages.stage import After, Before, Beside, Labeling, Merged, Scoring, Stage
from clearclip.models.position import WAYS


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
    # how positions are resized for other grids: "antialias" as GEM's code does, "bilinear" as CLIP Surgery's, or the usual way
    resize_positions: str = ""
    # further steps, see clearclip.methods.stages; as text in a Dataset
    stages: tuple[Stage, ...] = field(default=(), metadata={"write": stages.write, "read": stages.read})

    def __post_init__(self) -> None:
        if self.resize_positions and self.resize_positions not in WAYS:
            raise UserError(
                f"recipe {self.name}: resize_positions is {' or '.join(WAYS)}, or empty, not {self.resize_positions!r}."
            )
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
        if self.pipeline and (self.stream > 1 or self.beta or self.normalize_residual or self.cls_weight):
            raise UserError(
                f"recipe {self.name}: stages around the last block go with affinity, residual, ffn and alpha only."
            )
        if any(stage.keeps for stage in self.merged[1:]):
            raise UserError(f"recipe {self.name}: {self.merged[0]} has to stand behind {self.merged[1]}.")
        if any(stage.anew for stage in self.merged) and (self.scoring or self.cls_weight or self.joins_normed):
            raise UserError(
                f"recipe {self.name}: {self.merged[0]} scores the picture anew, so {self.scoring or 'sums of features'} "
                "before it would be lost."
            )
        if any(product.patches_only for product in self.products) and not any(stage.alone for stage in self.stages):
            raise UserError(
                f"recipe {self.name}: {self.affinity} speaks of patches only, so it needs the stage PatchesOnly()."
            )

    @property
    def terms(self) -> Affinity:
        """The products of the affinity and their weights."""
        return parse(self.affinity)

    @property
    def products(self) -> list[Product]:
        """Those products of the affinity that have parameters."""
        return parts(self.affinity)

    @property
    def parts(self) -> list[Product | Stage]:
        """All of it that has parameters of its own."""
        return [*self.products, *self.stages]

    @property
    def needs_guide(self) -> bool:
        """Whether it asks a second model."""
        return any(part.needs_guide for part in self.parts)

    @property
    def takes_regions(self) -> bool:
        """Whether it looks at a label for every pixel where somebody gives one."""
        return any(part.takes_regions for part in self.parts)

    @property
    def needs_truth(self) -> bool:
        """Whether it has to be told the true label of every pixel."""
        return any(part.needs_truth for part in self.parts)

    @property
    def looks_around(self) -> bool:
        """Whether its affinity depends on the other windows of a picture."""
        return any(product.looks_around for product in self.products)

    @property
    def one_by_one(self) -> bool:
        """Whether pictures go through the model one at a time, as it keeps something of every window of them."""
        return self.looks_around or any(stage.keeps for stage in self.merged)

    @property
    def elsewhere(self) -> bool:
        """Whether its patches lie on the second model's grid."""
        return any(product.elsewhere for product in self.products)

    @property
    def pipeline(self) -> bool:
        """Whether there are stages around the last block."""
        return bool(self.before or self.beside or self.after)

    @property
    def before(self) -> list[Before]:
        """The stages before the last block."""
        return [stage for stage in self.stages if isinstance(stage, Before)]

    @property
    def beside(self) -> list[Beside]:
        """The stages beside it."""
        return [stage for stage in self.stages if isinstance(stage, Beside)]

    @property
    def after(self) -> list[After]:
        """The stages after it, before the final norm."""
        return [stage for stage in self.stages if isinstance(stage, After)]

    @property
    def scoring(self) -> list[Scoring]:
        """The stages that change the scores of one crop."""
        return [stage for stage in self.stages if isinstance(stage, Scoring)]

    @property
    def merged(self) -> list[Merged]:
        """The stages that change what all windows of a picture gave together."""
        return [stage for stage in self.stages if isinstance(stage, Merged)]

    @property
    def labeling(self) -> list[Labeling]:
        """The stages that change the labels of a picture."""
        return [stage for stage in self.stages if isinstance(stage, Labeling)]

    @property
    def changes(self) -> tuple[Change, ...]:
        """What is changed inside the model for it."""
        return tuple(stage.change for stage in self.stages if isinstance(stage, Intervene))

    @property
    def joins_normed(self) -> bool:
        """Whether what stands beside the last block is added behind the final norm."""
        return any(stage.joins_normed() for stage in self.beside)

    def reads_layers(self, depth: int) -> list[int]:
        """The layers whose inputs the recipe looks at in a model of this depth."""
        last = self.reads(depth)
        stream = range(last - self.stream + 1 if self.residual else last, last + 1)
        untouched = [depth] if any(stage.needs_embedding for stage in self.stages) else []
        return sorted({*stream, *untouched, *(layer for part in self.parts for layer in part.layers(depth))})

    @property
    def formula(self) -> str:
        """What the last block gives out, in the words of the module's first line.

        >>> from clearclip.methods.recipes import RECIPES
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
        where += f", positions {self.resize_positions}" if self.resize_positions else ""
        return " + ".join(terms) + cls + where + "".join(f" · {stage!r}" for stage in self.stages)

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
        return replace(self, name="", affinity=" + ".join(split(self.affinity)))

    @cached_property
    def encoding(self) -> Recipe:
        """What of the recipe makes features: `nameless`, without the stages that score, merge or label.

        >>> from clearclip.methods.recipes import RECIPES
        >>> RECIPES["lposs"].encoding == RECIPES["maskclip"].encoding, RECIPES["lposs"].same(RECIPES["maskclip"])
        (True, False)
        """
        inside = tuple(stage for stage in self.stages if not isinstance(stage, (Scoring, Merged, Labeling)))
        return replace(self.nameless, stages=inside)

    def same(self, other: Recipe) -> bool:
        """Whether two recipes compute the same, whatever they are called.

        >>> from clearclip.methods.recipes import RECIPES
        >>> RECIPES["clearclip"].same(Recipe("mine", "qq", residual=False, ffn=False))
        True
        """
        return self.nameless == other.nameless

    def continues(self, other: Recipe) -> bool:
        """Whether it computes the same as another recipe but for further stages behind those of the other.

        >>> from clearclip.methods.recipes import RECIPES
        >>> RECIPES["sc_clip"].continues(RECIPES["sc_clip"]), RECIPES["sc_clip"].continues(RECIPES["clip"])
        (True, False)
        """
        mine, others = ({**vars(recipe.nameless), "stages": ()} for recipe in (self, other))
        return mine == others and self.stages[: len(other.stages)] == other.stages

    @property
    def facts(self) -> dict[str, Any]:
        """The name and every knob, as files have them."""
        return {"name": self.name} | {
            name: knob.metadata.get("write", _written)(getattr(self, knob.name)) for name, knob in knobs().items()
        }

    @staticmethod
    def to_coords(recipes: Sequence[Recipe]) -> dict[str, Any]:
        """The coordinates of a Dataset along `recipe`: the names, and one coordinate for each knob.

        Args:
            recipes: in the order of the dimension.

        Returns: what `xarray.Dataset(coords=…)` and `assign_coords` take.

        >>> from clearclip.methods.recipes import RECIPES, feature_recipe
        >>> coords = Recipe.to_coords([RECIPES["clip"], feature_recipe("X_attn", 7)])
        >>> coords["recipe"], coords["attention"][:2], coords["layer"][:2]
        (['clip', 'X_attn layer 7'], ('recipe', ['qk', 'qk']), ('recipe', [0, 7]))
        """
        coords: dict[str, Any] = {"recipe": [recipe.name for recipe in recipes]}
        for coordinate, knob in knobs().items():
            written = [recipe.facts[coordinate] for recipe in recipes]
            coords[coordinate] = ("recipe", written, knob.metadata.get("attrs", {}))
        return coords

    @staticmethod
    def from_coords(dataset: xr.Dataset) -> dict[str, Recipe]:
        """The recipes of a Dataset by name, from its coordinates; a knob that an older file lacks has its default.

        >>> from clearclip.methods.recipes import RECIPES, feature_recipe
        >>> dataset = xr.Dataset(coords=Recipe.to_coords([RECIPES["clip"], feature_recipe("X_attn", 7)]))
        >>> Recipe.from_coords(dataset)["X_attn layer 7"] == feature_recipe("X_attn", 7)
        True
        """
        columns = {
            knob.name: [
                knob.metadata["read"](value) if "read" in knob.metadata else _unwritten(value, knob.default)
                for value in dataset[coordinate].values.tolist()
            ]
            for coordinate, knob in knobs().items()
            if coordinate in dataset.coords
        }
        return {
            name: Recipe(name, **{knob: values[i] for knob, values in columns.items()})
            for i, name in enumerate(dataset.recipe.values.tolist())
        }


def _sub(letter: str, index: str) -> str:
    return f"<i>{letter}</i><sub>{index}</sub>"


def knobs() -> dict[str, Field[Any]]:
    """The fields of `Recipe` but its name, by what a Dataset calls them."""
    return {field.metadata.get("coordinate", field.name): field for field in fields(Recipe) if field.name != "name"}


def _written(value: Any) -> Any:
    """A value as a file has it: 0 for None."""
    return 0 if value is None else value


def _unwritten(value: Any, default: Any) -> Any:
    """A value from a file as its field had it: of the default's type, and None for 0 where None is the default."""
    return int(value) or None if default is None else type(default)(value)
