"""What the authors of methods tuned for each data set, as recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from clearclip.methods.products.same_label import SameLabel
from clearclip.methods.recipe import Recipe
from clearclip.methods.stages.first_pass import FirstPass


class ResClip(NamedTuple):
    """What ResCLIP's authors tuned."""

    cut: float  # probability that counts in the first pass
    share: float  # of the middle blocks, λ
    temperature: float  # τ' …
    weight: float  # … and λ' of the second pass


RESCLIP = {
    "voc21": ResClip(0.50, 0.3, 2.2, 0.7),
    "context60": ResClip(0.30, 0.3, 1.8, 0.7),
    "coco_object": ResClip(0.11, 0.4, 1.8, 0.7),
    "voc20": ResClip(0.10, 0.6, 2.1, 0.6),
    "cityscapes": ResClip(0.10, 0.2, 2.1, 0.6),
    "context59": ResClip(0.25, 0.4, 1.8, 0.7),
    "ade20k": ResClip(0.25, 0.3, 2.1, 0.7),
    "coco_stuff": ResClip(0.11, 0.4, 1.8, 0.7),
}
DEFAULT = "voc21"  # whose settings a recipe has where nothing else is said


def resclip(dataset: str = DEFAULT) -> dict[str, Recipe]:
    """ResCLIP on its three bases and without its second pass, as tuned for a data set of `RESCLIP`.

    A = 2((1 − λ)·A_base + λ·mean over blocks 6 … 9 of softmax(s·qkᵀ)).

    >>> resclip("cityscapes")["resclip_rcs"]
    Recipe(resclip_rcs: Proj(A[1.6*kk_gaussian + 0.4*qk_middle]·v))
    """
    cut, share, temperature, weight = RESCLIP[dataset]
    first, middle = f"{2 * (1 - share):g}*", f" + {2 * share:g}*qk_middle"

    def fed_back(name: str, once: str, again: SameLabel, block: bool = False) -> Recipe:
        first_pass = FirstPass(once + middle, residual=block, ffn=block, cut=cut)
        return Recipe(name, f"{first}{again!r}{middle}", residual=block, ffn=block, stages=(first_pass,))

    known = (
        fed_back("resclip", f"{first}kk_gaussian", SameLabel(temperature, weight)),
        fed_back("resclip+clearclip", f"{first}qq", SameLabel(temperature, weight, "qq", near=False)),
        fed_back("resclip+sclip", f"{first}qq + {first}kk", SameLabel(temperature, weight, "qq kk", near=False), True),
        Recipe("resclip_rcs", f"{first}kk_gaussian{middle}", residual=False, ffn=False),
    )
    return {recipe.name: recipe for recipe in known}


def tuned(recipe: Recipe, dataset: str) -> Recipe:
    """A recipe as its authors tuned it for a data set: itself where they did not, or where somebody else has turned it.

    Args:
        recipe: one of a method that `RESCLIP` knows, also with further stages, or any other.
        dataset: a benchmark's name.

    >>> from clearclip.methods.recipes import RECIPES
    >>> tuned(RECIPES["resclip_rcs"], "voc20").affinity, tuned(RECIPES["clearclip"], "voc20").affinity
    ('0.8*kk_gaussian + 1.2*qk_middle', 'qq')
    """
    if dataset not in RESCLIP:
        return recipe
    for name, usual in resclip().items():
        own = len(usual.stages)
        if recipe.affinity == usual.affinity and recipe.stages[:own] == usual.stages:
            theirs = resclip(dataset)[name]
            return replace(recipe, affinity=theirs.affinity, stages=(*theirs.stages, *recipe.stages[own:]))
    return recipe
