"""Writes the page of methods: every recipe with its formula, stages and source, and what every stage does.

python docs/methods.py            # writes docs/methods.md; exits with 1 where a recipe has no source yet
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from clearclip.methods.products import PARAMETRIC
from clearclip.methods.recipes import ADDITIONS, RECIPES
from clearclip.methods.stages import STAGES
from clearclip.methods.stages.outliers import RULES
from clearclip.methods.titles import method_label

PAGE = Path(__file__).parent / "methods.md"
CLEARCLIP = "Lan et al., ClearCLIP, ECCV 2024"
SCLIP = "Wang et al., SCLIP, ECCV 2024"
RESCLIP = "Yang et al., ResCLIP, CVPR 2025; yvhangyang/ResCLIP"
SOURCES = {  # recipe → where its formula was published, and what of the publication is not included
    "clip": ("Radford et al., CLIP, ICML 2021", ""),
    "maskclip": (
        "Zhou et al., MaskCLIP, ECCV 2022",
        "MMSegmentation's MaskCLIP has GELU and ε 1e-6; here the model keeps its own",
    ),
    "sclip": (SCLIP, "its refinement is +pamr"),
    "clip_surgery": ("Li et al., CLIP Surgery, 2023", ""),
    "gem": ("Bousselham et al., GEM, CVPR 2024; gem_torch (MIT)", ""),
    "clearclip": (CLEARCLIP, ""),
    "maskclip+clearclip": (CLEARCLIP + ", Table 5", ""),
    "sclip+clearclip": (CLEARCLIP + ", Table 5", ""),
    "gem+clearclip": (CLEARCLIP + ", Table 5", ""),
    "naclip": ("Hajimiri et al., NACLIP, WACV 2025", "its refinement is +pamr"),
    "segearth_ov": ("Li et al., SegEarth-OV, CVPR 2025", "the learned upsampler"),
    "resclip": (RESCLIP, ""),
    "resclip_rcs": (RESCLIP, "the second pass (SFR)"),
    "resclip+clearclip": (RESCLIP, ""),
    "resclip+sclip": (RESCLIP, ""),
    "resclip_rcs+clearclip": (RESCLIP, "the second pass (SFR); λ is .5 here"),
    "proxyclip": ("Lan et al., ProxyCLIP, ECCV 2024", ""),
    "sc_clip": ("Bai et al., SC-CLIP, 2024; SuleBai/SC-CLIP", ""),
    "sfp": ("SFP, ICCV 2025; Kimsure/SFP", ""),
    "itaclip": (
        "Aydın et al., ITACLIP, 2024; m-arda-aydn/ITACLIP",
        "all but the attention: image engineering, texts of a language model",
    ),
    "scra": ("RADSeg, 2025; RADSeg-OVSS/RADSeg", "RADIO's language adaptor"),
    "scga": ("RADSeg, 2025; RADSeg-OVSS/RADSeg", "RADIO's language adaptor"),
    "scra+scga": ("RADSeg, 2025; RADSeg-OVSS/RADSeg", "RADIO's language adaptor"),
    "lposs": ("Stojnić et al., LPOSS, CVPR 2025; vladan-stojnic/LPOSS (MIT)", ""),
    "lposs+": ("Stojnić et al., LPOSS, CVPR 2025; vladan-stojnic/LPOSS (MIT)", ""),
    "trident": (
        "Shi et al., Trident, ICCV 2025; YuHengsss/Trident (Apache-2.0)",
        "SAM: its affinity is that of the second model",
    ),
    "corrclip": ("Zhang et al., CorrCLIP, ICCV 2025; zdk258/CorrCLIP", "SAM2's masks: give any regions"),
    "oracle": ("this toolkit", ""),
}
START = """# Methods

Every method here is data: what the last block of an unmodified model does instead of itself, and stages before, beside and
after it.
Formulas were derived anew from papers and checked against the authors' running code; no code of theirs is taken, so their licences
do not reach this toolkit. A licence stands behind a repository where it states one that is known here.

    out = residual·X_res + alpha·Proj(A·v) + FFN(LN2(·))  →  stages  →  final LN  →  projection  →  L2-normalise

"""
AFTER = """
To any recipe may be added: {additions}. So `clearclip+pamr` is ClearCLIP with refined maps.

A stage or an affinity with parameters is written as it is called, in Python, in a Dataset and on the command line:
`--recipe "clearclip stages=Repair(rule=LargeNorms(times=3))"`. A block is counted as in a model of 12 blocks, and lies as far up in
another one.
"""


def row(name: str) -> str:
    """A line of the table of recipes: the formula, and the stages below it."""
    recipe = RECIPES[name]
    formula = recipe.formula.partition(" · ")[0].replace(repr(1 / 3), "⅓")
    return f"| `{name}` | {method_label(name)} | {'<br>'.join(f'`{part}`' for part in (formula, *recipe.stages))} |"


def source(name: str) -> str:
    """A line of the table of sources."""
    published, missing = SOURCES[name]
    return f"| `{name}` | {published} | {missing or '–'} |"


def first_sentence(kind: type) -> str:
    """What a class says of itself in its first line."""
    return (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def page() -> str:
    """The page."""
    recipes = ["| recipe | method | formula and stages |", "|---|---|---|", *map(row, RECIPES)]
    additions = ", ".join(f"`+{name}` (`{stage!r}`)" for name, stage in ADDITIONS.items())
    sources = ["\n## Sources\n", "| recipe | published in | not included |", "|---|---|---|", *map(source, RECIPES), ""]
    parts = [START, "\n".join(recipes), "\n", AFTER.format(additions=additions), "\n".join(sources)]
    for title, kinds in (("Stages", STAGES), ("Rules of `Repair`", RULES), ("Affinities with parameters", PARAMETRIC)):
        rows = [f"| `{name}` | {first_sentence(kind)} |" for name, kind in sorted(kinds.items())]
        parts.append("\n".join([f"\n## {title}\n", "| name | what it does |", "|---|---|", *rows, ""]))
    return "".join(parts)


if __name__ == "__main__":
    wanting = [name for name in RECIPES if name not in SOURCES]
    for name in wanting:
        print(f"no source: {name}", file=sys.stderr)
    if wanting:
        sys.exit(1)
    PAGE.write_text(page(), "utf-8")
