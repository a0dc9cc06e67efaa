"""Option values that mean nothing, for every command that has the option: refused before any work, with what is allowed."""

from __future__ import annotations

import pytest
from forked import clean, command
from material import labelled, pictures

LOOKS = ("analysis.entropy", "analysis.tokens", "analysis.similarity", "analysis.attention")
MEASURES = ("clearclip.evaluate", "analysis.compare", "analysis.prototypes")
GIVEN = {
    **dict.fromkeys(LOOKS, ("--model", "clip_tiny", "--images", "pictures", "--layers", "1")),
    **dict.fromkeys(MEASURES, ("--model", "clip_tiny", "--dataset", "data", "--limit", "1")),
    "analysis.export": ("--model", "clip_tiny", "--images", "pictures", "--layers", "1"),
    "clearclip.segment": ("pictures", "--model", "clip_tiny", "--classes", "sky, grass"),
}
REFUSED = {  # option → values that must be refused wherever the option is
    "--model": ["", "=", "x=", ":", "nothing", "timm:", "timm:nothing", "open_clip:", "open_clip:ViT-B-16/nothing"],
    "--checkpoint": ["", "nowhere.pt", "pictures"],
    "--limit": ["0", "-1", "x", "1.5", "", "nan"],
    "--batch-size": ["0", "-1", "x", "1.5", ""],
    "--device": ["", "x", "meta", "cuda:99", "cpu:x", "-1"],
    "--precision": ["", "fp8", "FP32", "x"],
    "--layers": ["0", "-1", "99", "1 1", "x", "1.5"],
    "--image-size": ["0", "-1", "1", "x", "100000", "1.5"],
    "--short-side": ["0", "-1", "x", "1.5"],
    "--images": ["", "nowhere", "scenes:x", "photographs:x", "voc20:nowhere", "/dev/null", ":"],
    "--dataset": ["", "nowhere", "scenes:x", "voc20:", "voc20:nowhere", "folder:", ":", "data data", "scenes scenes"],
    "--split": ["x", "", "../val"],
    "--names": ["x", ""],
    "--recipe": ["", "nothing", "clip clip", "clearclip alpha", "clearclip alpha=x", "clearclip alpha=nan", "clip x=1"],
    "--threshold": ["x", "nan", "2", "-1", ""],
    "--prompts": ["", "nothing", "pictures"],
    "--proxy": ["", "nothing"],
    "--tokens": ["x", ""],
    "--output": ["", "x.csv", "/dev/null", "/proc/x.nc", "pictures"],
    "--figure": ["x.gif", "", "x", "pictures"],
    "--data": ["", "nowhere.nc", "pictures", "/dev/null"],
    "--at": ["2 2", "x y", "-1 0", "0.5", "nan nan"],
    "--feature": ["x", ""],
    "--layer": ["0", "99", "1"],
    "--features": ["x", "", "X_sum X_sum"],
    "--dtype": ["x", "", "fp8"],
    "--shard-tokens": ["0", "-1", "63", "x", "1.5", ""],
    "--nonsense": ["", "1"],
}
FREE = {
    ("clearclip.segment", "--output", "pictures"),
    ("clearclip.segment", "--output", "x.csv"),
    ("analysis.export", "--output", "pictures"),
    ("analysis.export", "--output", "x.csv"),
}  # a folder of this name
TAKES = {  # beside the options of all
    "--layers": (*LOOKS, "analysis.export", "analysis.prototypes"),
    "--image-size": (*LOOKS, "analysis.export", "clearclip.segment"),
    "--short-side": ("analysis.prototypes", "clearclip.segment"),
    "--images": (*LOOKS, "analysis.export"),
    "--dataset": MEASURES,
    "--split": MEASURES,
    "--names": MEASURES,
    "--recipe": ("clearclip.evaluate", "clearclip.segment"),
    "--threshold": ("clearclip.evaluate", "analysis.compare", "clearclip.segment"),
    "--prompts": ("clearclip.evaluate", "analysis.compare", "clearclip.segment"),
    "--proxy": ("clearclip.evaluate", "clearclip.segment"),
    "--tokens": ("analysis.entropy", "analysis.export"),
    "--figure": (*LOOKS, "analysis.compare", "analysis.prototypes"),
    "--data": (*LOOKS, "analysis.compare", "analysis.prototypes"),
    "--at": ("analysis.similarity",),
    "--feature": ("clearclip.segment",),
    "--layer": ("clearclip.segment",),
    "--features": ("analysis.export",),
    "--dtype": ("analysis.export",),
    "--shard-tokens": ("analysis.export",),
}
CASES = [
    (door, option, value)
    for option, values in REFUSED.items()
    for door in TAKES.get(option, tuple(GIVEN))
    for value in values
    if (door, option, value) not in FREE
]
TOGETHER = {  # what excludes each other, or has no effect alone
    "feature and recipe": ("clearclip.segment", "--feature", "X_res", "--recipe", "clip"),
    "layer alone": ("clearclip.segment", "--layer", "1"),
    "threshold alone": ("clearclip.segment", "--threshold", "0.5"),
    "two models": ("clearclip.segment", "--model", "clip_tiny", "dino_tiny"),
    "no text tower": ("clearclip.segment", "--model", "dino_tiny"),
    "background twice": ("clearclip.segment", "--background", "--classes", "sky, background"),
    "random and checkpoint": ("analysis.entropy", "--random", "--checkpoint", "x.pt"),
    "two checkpoints": ("analysis.entropy", "--checkpoint", "x.pt", "y.pt"),
    "a model twice": ("analysis.entropy", "--model", "clip_tiny", "clip_tiny"),
    "split of a folder": ("clearclip.evaluate", "--split", "train"),
    "data and plan": ("figures", "--data", "nowhere", "--plan"),
    "demo and model": ("figures", "--offline-demo", "--model", "clip_tiny"),
    "unknown figure": ("figures", "fig99"),
    "checkpoint without model": ("figures", "--checkpoint", "x.pt"),
    "hub": ("analysis.entropy", "--model", "open_clip:hf-hub:owner/name"),
    "local folder": ("analysis.entropy", "--model", "open_clip:local-dir:nowhere"),
    "unknown data set": ("clearclip.datasets", "check", "nothing"),
    "no data set": ("clearclip.datasets", "check"),
    "no command": ("clearclip.datasets",),
    "unknown shell": ("clearclip.completion", "csh"),
    "unknown command": ("clearclip", "entrpy"),
}


@pytest.mark.parametrize(("door", "option", "value"), CASES)
def test_a_value_that_means_nothing(door, option, value, cwd):
    pictures(cwd / "pictures", 2)
    labelled(cwd / "data", 2)
    words = value.split() if " " in value and option not in ("--recipe",) else [value]
    places = (
        ["--text-cache", "texts"] if door in ("clearclip.evaluate", "analysis.compare", "clearclip.segment") else []
    )
    given = [*GIVEN[door], *places]
    if option in given:
        place = given.index(option)
        del given[place : place + 2]
    clean(command(door, *given, option, *words, cwd=cwd), (2,))


@pytest.mark.parametrize("name", TOGETHER)
def test_options_that_do_not_go_together(name, cwd):
    door, *words = TOGETHER[name]
    pictures(cwd / "pictures", 2)
    labelled(cwd / "data", 2)
    given = list(GIVEN.get(door, ()))
    for word in words:
        if word in given:
            del given[given.index(word) : given.index(word) + 2]
    clean(command(door, *given, *words, cwd=cwd), (2,))
