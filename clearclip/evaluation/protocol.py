"""Protocols: how large pictures are, how they are cut into windows, and which pixels become background.

A number says little without its protocol. Those of the field are data here, with what of them is not done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import NamedTuple

import xarray as xr

from clearclip.datasets import facts
from clearclip.errors import UserError
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.methods.titles import AUTHORS_PROTOCOL
from clearclip.methods.windows import Windows
from clearclip.models.backbone import Backbone
from clearclip.segmentation.labelling import TEMPERATURE


class Level(NamedTuple):
    """The score below which a pixel becomes background, and what cosines are multiplied with for the score's softmax."""

    threshold: float
    scale: float = TEMPERATURE


Levels = Mapping[str, Level]  # by data set


@dataclass(frozen=True)
class Protocol:
    """Sizes, thresholds and scales by data set.

    Args:
        name: what it is called.
        usual: windows for models of 224 pixels and more; for smaller ones in proportion.
        others: windows of the data sets that have their own.
        levels: threshold and scale by data set; what is not listed has what its `Facts` say.
        methods: those of recipes that their authors gave their own.
        scale: what cosines are multiplied with where somebody names a threshold.
        not_done: what its authors do and this package does not.

    >>> PROTOCOLS["sclip"].level("voc21", RECIPES["sc_clip"]), PROTOCOLS["sclip"].level("voc20", RECIPES["sc_clip"])
    (Level(threshold=0.15, scale=50.0), Level(threshold=0.0, scale=50.0))
    """

    name: str
    usual: Windows
    others: Mapping[str, Windows] = field(default_factory=dict)
    levels: Levels = field(default_factory=dict)
    methods: Mapping[str, Levels] = field(default_factory=dict)
    scale: float = TEMPERATURE
    not_done: str = ""

    def windows(self, dataset: str, model: Backbone) -> Windows:
        """The windows of a data set; in proportion for models of small pictures."""
        usual = self.others.get(dataset, self.usual)
        if dataset not in self.others and facts(dataset).half_windows:
            usual = replace(usual, crop=usual.crop // 2)
        side = Windows.of(model).short_side
        return Windows(*(size * side // Windows().short_side for size in astuple(usual)))

    def level(self, dataset: str, recipe: Recipe) -> Level:
        """Below which score a pixel becomes background, 0 for data sets that have none.

        >>> [PROTOCOLS["clearclip"].level("voc21", RECIPES[name]).threshold for name in ("clip", "clearclip")]
        [0.2, 0.5]
        """
        name = method(recipe)
        for levels in (self.methods.get(name, {}), self.levels):
            if dataset in levels:
                return levels[dataset]
        known = facts(dataset)
        return Level(known.clip_threshold if name == "clip" and known.clip_threshold is not None else known.threshold)

    def departed(self, windows: Windows | None, threshold: float | None) -> str:
        """Its name, with what somebody sets otherwise.

        >>> PROTOCOLS["sclip"].departed(None, None), PROTOCOLS["sclip"].departed(Windows(), 0.3)
        ('sclip', 'sclip with other windows and threshold 0.3')
        """
        changed = ["other windows"] * (windows is not None)
        changed += [] if threshold is None else [f"threshold {threshold:g}"]
        return self.name + (f" with {' and '.join(changed)}" if changed else "")


CLEARCLIP = "clearclip"  # the protocol that is taken unless another one is named

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(  # ClearCLIP (ECCV 2024), section 4; thresholds and Cityscapes' windows are among the data sets' facts
            CLEARCLIP,
            Windows(448, 2048, 448, 224),
        ),
        Protocol(  # the configurations of SCLIP, NACLIP, ResCLIP and SC-CLIP
            "sclip",
            Windows(336, 2048, 224, 112),
            others={"cityscapes": Windows(560, 2048, 224, 112)},
            levels=dict.fromkeys(("voc21", "context60", "coco_object"), Level(0.1, 40.0)),
            methods={
                "sclip": {
                    "voc21": Level(0.1, 65.0),
                    "context60": Level(0.1, 50.0),
                    "coco_object": Level(0.1, 50.0),
                },
                "sc_clip": {
                    "voc21": Level(0.15, 50.0),
                    "context60": Level(0.15, 40.0),
                    "coco_object": Level(0.35, 55.0),
                },
            },
            scale=40.0,
            not_done=(
                "On VOC21, SCLIP and SC-CLIP also remove classes that cover less than a tenth of what is not background, and "
                "ResCLIP cuts no windows. SFP resizes ADE20K to 384; it has the thresholds of NACLIP here."
            ),
        ),
        Protocol(  # the configurations of ProxyCLIP
            "proxyclip",
            Windows(336, 2048, 336, 112),
            others={"ade20k": Windows(448, 2048, 336, 112), "cityscapes": Windows(448, 2048, 224, 112)},
            levels={"voc21": Level(0.2, 40.0), "context60": Level(0.15, 40.0), "coco_object": Level(0.25, 40.0)},
            methods={
                "clip": {"voc21": Level(0.1, 40.0), "context60": Level(0.05, 40.0), "coco_object": Level(0.1, 40.0)}
            },
            scale=40.0,
            not_done="CorrCLIP also gives every region of a second model's masks one label.",
        ),
        Protocol(  # Trident: 448 to 688, of which 688 is Cityscapes'
            "trident",
            Windows(448, 2048, 336, 224),
            others={"cityscapes": Windows(688, 2048, 336, 224)},
            levels={"voc21": Level(0.2, 40.0), "context60": Level(0.15, 40.0), "coco_object": Level(0.25, 40.0)},
            scale=40.0,
            not_done="Its authors resize some data sets to sizes between 448 and 688, and refine labels with SAM.",
        ),
    )
}


def named(name: str) -> Protocol:
    """A protocol by its name; raises `UserError` with all names for another one."""
    if name not in PROTOCOLS:
        raise UserError(f"there is no protocol {name!r}; choose from {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def method(recipe: Recipe) -> str:
    """The recipe of `RECIPES` that a recipe is, whatever its name and whatever stages were added; "" if there is none."""
    names = [name for name, known in RECIPES.items() if recipe.continues(known)]
    return max(names, key=lambda name: len(RECIPES[name].stages), default="")


def of_dataset(dataset: xr.Dataset) -> str:
    """The protocol of a result, that of older files being ClearCLIP's; "" where its data sets have several."""
    if "protocol" not in dataset.coords:
        return CLEARCLIP
    names = {str(name) for name in dataset.protocol.values.ravel()}
    return names.pop() if len(names) == 1 else ""


def notes(dataset: xr.Dataset) -> list[str]:
    """What a reader of a result has to know about its protocol: what is not done, and whose authors have another one."""
    name = of_dataset(dataset)
    known = PROTOCOLS.get(name.partition(" with ")[0])
    lines = [f"protocol {name}. Not done here: {known.not_done}"] if known and known.not_done else []
    theirs: dict[str, list[str]] = {}
    for label, recipe in Recipe.from_coords(dataset).items():
        other = AUTHORS_PROTOCOL.get(method(recipe), name)
        if other != name:
            theirs.setdefault(other, []).append(label)
    return lines + [
        f"{', '.join(labels)}: the authors' own numbers are of the protocol {other}" for other, labels in theirs.items()
    ]
