"""The lists of recipes that the paper sweeps over, as data: attentions × variants, α, β, methods, layers."""

from __future__ import annotations

from clearclip.methods.recipes import RECIPES, Recipe, feature_recipe
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES

ATTENTIONS = ("qk", "qq", "kk", "vv", "identity")
# what is left of the last block → (residual, ffn)
VARIANTS = {"full": (True, True), "-FFN": (True, False), "-RC": (False, True), "-RC-FFN": (False, False)}
ALPHAS = (0.1, 0.5, 1.0, 2.0, 10.0, 100.0)
BETAS = (0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 1.0)
NORMALIZED = "X_res normalised"


def ablation() -> list[Recipe]:
    """Five attentions × four variants of the last block (paper Table 1, Figs. 5 and 8).

    >>> len(ablation()), ablation()[7].name
    (20, 'qq -RC-FFN')
    """
    return [
        Recipe(ablation_name(attention, residual, ffn), attention, residual=residual, ffn=ffn)
        for attention in ATTENTIONS
        for residual, ffn in VARIANTS.values()
    ]


def norms() -> list[Recipe]:
    """The five attentions, each in an otherwise unchanged last block (paper Fig. 2).

    >>> [recipe.name for recipe in norms()][:2]
    ['qk full', 'qq full']
    """
    return [recipe for recipe in ablation() if recipe.residual and recipe.ffn]


def alpha() -> list[Recipe]:
    """Five attentions × six weights of X_attn, without FFN (paper Fig. 6).

    >>> len(alpha()), alpha()[6].name
    (30, 'qq alpha=0.1')
    """
    return [
        Recipe(f"{attention} alpha={weight:g}", attention, ffn=False, alpha=weight)
        for attention in ATTENTIONS
        for weight in ALPHAS
    ]


def beta() -> list[Recipe]:
    """Seven shares of pruned channels, and a normalized X_res; q-q attention, without FFN (paper Table 4).

    >>> [recipe.name for recipe in beta()][-2:]
    ['beta=100%', 'X_res normalised']
    """
    pruned = [Recipe(beta_name(share), "qq", ffn=False, beta=share) for share in BETAS]
    return [*pruned, Recipe(NORMALIZED, "qq", ffn=False, normalize_residual=True)]


def compare() -> list[Recipe]:
    """Every method that needs no second model and is not told the truth (paper Tables 2, 3 and 5).

    >>> [recipe.name for recipe in compare()][:6]
    ['clip', 'maskclip', 'sclip', 'clip_surgery', 'gem', 'clearclip']
    """
    return [recipe for recipe in RECIPES.values() if not (recipe.needs_guide or recipe.needs_truth)]


def layers(model: Backbone) -> list[Recipe]:
    """Three feature maps of each of the model's layers (paper Fig. 3 for every layer)."""
    return [feature_recipe(feature, layer) for layer in range(1, model.depth + 1) for feature in FEATURES]


def ablation_name(attention: str, residual: bool, ffn: bool) -> str:
    """What a recipe of `ablation` is called.

    >>> ablation_name("qq", residual=False, ffn=True)
    'qq -RC'
    """
    return f"{attention} {variant(residual, ffn)}"


def beta_name(share: float) -> str:
    """What a recipe of `beta` is called.

    >>> beta_name(0.05)
    'beta=5%'
    """
    return f"beta={100 * share:g}%"


def variant(residual: bool, ffn: bool) -> str:
    """What is left of the last block, by its key in `VARIANTS`.

    >>> variant(residual=False, ffn=True)
    '-RC'
    """
    return next(name for name, flags in VARIANTS.items() if flags == (residual, ffn))
