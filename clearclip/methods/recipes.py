"""Every published method as data: what the last block does instead of itself.

out = residual·X_res + alpha·Proj(A·v) + FFN(LN2(·))   → final LN → drop prefix tokens → projection → L2-normalise
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from clearclip.errors import UserError, closest
from clearclip.methods.affinity import Affinity, parse
from clearclip.models.block import FEATURES


@dataclass(frozen=True)
class Recipe:
    """A training-free dense method on a CLIP: one line of data, usable wherever a recipe's name is.

    >>> mine = Recipe("mine", affinity="0.5*qq + 0.5*vv", residual=False, ffn=False)
    >>> mine.variant(alpha=2.0).name
    'mine alpha=2.0'
    """

    name: str
    affinity: str = "qk"  # a product, or a weighted sum of products, see clearclip.methods.affinity
    residual: bool = True  # X_res is added
    ffn: bool = True  # FFN(LN2(·)) of the sum is added
    alpha: float = 1.0  # weight of the attention output (paper Fig. 6)
    beta: float = 0.0  # share of X_res's channels that are set to 0, those of the highest mean (paper Table 4)
    normalize_residual: bool = False  # every token of X_res at length 1 (paper Table 4)
    stream: int = (
        1  # over how many last blocks a second stream x' ← x' + alpha·Proj(A·v) runs; its q, k, v are the original's
    )
    layer: int | None = None  # read this block, counted from 1, instead of the last ("logit lens")
    cls_weight: float = 0.0  # this much of the CLS token's feature is added to every patch's

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise UserError(f"recipe {self.name}: beta is a share of the channels between 0 and 1, not {self.beta}.")
        if self.stream < 1 or (self.stream > 1 and (self.ffn or self.beta or self.normalize_residual)):
            raise UserError(
                f"recipe {self.name}: a second stream covers 1 or more blocks and has no FFN and no pruned residual."
            )
        if not self.residual and self.alpha == 0:
            raise UserError(f"recipe {self.name}: without residual and with alpha 0 nothing is left.")
        self.terms  # noqa: B018  an affinity that cannot be read is refused here

    @property
    def terms(self) -> Affinity:
        """The products of the affinity and their weights."""
        return parse(self.affinity)

    def variant(self, **changes: object) -> "Recipe":
        """The recipe with some knobs turned, and a name that says so unless one is given."""
        name = " ".join([self.name, *(f"{knob}={value}" for knob, value in changes.items())])
        return replace(self, **{"name": name, **changes})  # type: ignore[arg-type]


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
        Recipe(
            "gem+clearclip",
            GEM,
            residual=False,
            ffn=False,
        ),
        Recipe("naclip", "kk_gaussian", residual=False, ffn=False),
        Recipe("segearth_ov", "qq + kk + vv", residual=False, ffn=False, cls_weight=-0.3),
        # λ = 0.5; its authors tune it between 0.2 and 0.6 per dataset
        Recipe("resclip", "1.0*qq + 1.0*qk_middle", residual=False, ffn=False),
        Recipe("proxyclip", "proxy", residual=False, ffn=False),
    )
}


def recipe(which: str | Recipe) -> Recipe:
    """A recipe by name, or itself. Raises `UserError` with the closest names.

    >>> recipe("clearclip").residual
    False
    """
    if isinstance(which, Recipe):
        return which
    if which not in RECIPES:
        raise UserError(
            f"unknown recipe {which!r}. Closest: {closest(which, list(RECIPES))}. Known: {', '.join(RECIPES)}."
        )
    return RECIPES[which]


def recipes(which: Iterable[str | Recipe]) -> list[Recipe]:
    """Several recipes, each with a name of its own."""
    chosen = [recipe(one) for one in which]
    names = [one.name for one in chosen]
    if not chosen or len(set(names)) != len(names):
        raise UserError(f"recipes {names}: at least one, and each name once.")
    return chosen


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
