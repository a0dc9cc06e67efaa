"""What a command line may not say; every row is one message and exit code 2, before anything is computed."""

import pytest
from commands import files, here

from analysis.probes.images import pictures
from clearclip.datasets import load, parse
from clearclip.errors import UserError
from clearclip.pictures import find_images
from clearclip.pixels import opened

TINY = ("--model", "clip_tiny")
REFUSED = {
    "an empty folder": ("analysis.entropy", ("--images", ""), "--images is empty"),
    "an empty folder after a good one": ("analysis.entropy", ("--images", "photographs", ""), "is empty"),
    "an empty folder with =": ("analysis.entropy", ("--images=",), "--images is empty"),
    "an empty photo": ("clearclip.segment", ("",), "is empty"),
    "an empty model": ("analysis.entropy", ("--model", ""), "--model is empty"),
    "a blank model": ("analysis.entropy", ("--model", " "), "--model is empty"),
    "no model": ("clearclip.segment", ("--model",), "--model is given without a value"),
    "no model before another option": ("figures", ("--model", "--plan"), "--model is given without a value"),
    "no picture": ("analysis.entropy", ("--images", "--limit", "1"), "--images is given without a value"),
    "no recipe": ("clearclip.segment", ("--compare",), "--compare is given without a value"),
    "an empty split": ("clearclip.evaluate", (*TINY, "--split", ""), "--split is empty"),
    "an empty output": ("analysis.entropy", ("--output", ""), "--output is empty"),
    "an empty proxy": ("clearclip.segment", ("--proxy", ""), "--proxy is empty"),
    "an empty data set": ("clearclip.evaluate", ("--dataset", ""), "--dataset is empty"),
    "an empty name to check": ("clearclip.datasets", ("check", ""), "is empty"),
    "a model without a name": ("analysis.entropy", ("--model", "=x.pt"), "write a name"),
    "a label without a name": ("analysis.entropy", ("--model", "mine="), "write a name"),
    "a blank label": ("analysis.entropy", ("--model", " =clip_tiny"), "write a name"),
    "no file behind the colon": ("analysis.entropy", ("--model", "clip_tiny:"), "write a name"),
    "no file behind the second colon": ("analysis.entropy", ("--model", "zoo:clip_tiny:"), "write a name"),
    "a repository of weights": ("analysis.entropy", ("--model", "open_clip:hf-hub:org/name"), "not by a repository"),
    "a local folder": ("analysis.entropy", ("--model", "open_clip:local-dir:here"), "not by a repository"),
    "a repository of timm": ("clearclip.segment", ("--model", "timm:hf_hub:org/name"), "not by a repository"),
    "scenes with a folder": ("clearclip.evaluate", ("--dataset", "scenes:x"), "lie in no folder"),
    "scenes with a colon": ("clearclip.evaluate", ("--dataset", "scenes:"), "no folder behind the colon"),
    "a benchmark with a colon": ("clearclip.evaluate", ("--dataset", "voc20:"), "no folder behind the colon"),
    "scenes with a root": ("clearclip.datasets", ("check", "scenes", "x"), "lie in no folder"),
    "a layer of a recipe": ("clearclip.segment", ("--layer", "3"), "goes with --feature"),
    "a proxy that nobody looks at": ("clearclip.segment", (*TINY, "--proxy", "dino_tiny"), "leave out the proxy"),
    "pictures counted from the end": ("clearclip.segment", ("--limit", "-1"), "at least one picture"),
    "no picture at a time": ("clearclip.segment", ("--batch-size", "0"), "at least 1"),
    "two backgrounds": (
        "clearclip.segment",
        ("--classes", "sky, background", "--background"),
        "background is there twice",
    ),
    "a background in two spellings": (
        "clearclip.segment",
        ("--classes", "background, Background"),
        "background is there twice",
    ),
    "one name in two classes": ("clearclip.segment", ("--classes", "sky|cloud, cloud"), "cloud is there twice"),
    "a weight that is no number": ("clearclip.evaluate", (*TINY, "--recipe", "clearclip alpha=nan"), "finite numbers"),
    "a layer twice": ("analysis.entropy", (*TINY, "--layers", "1", "1"), "layers 1, 1: 1 once is enough"),
    "a layer of maps twice": ("analysis.attention", (*TINY, "--layers", "1", "1"), "once is enough"),
    "a layer of prototypes twice": ("analysis.prototypes", (*TINY, "--layers", "1", "1"), "once is enough"),
    "a head twice": ("analysis.attention", (*TINY, "--heads", "1", "2", "1"), "heads 1, 2, 1"),
    "a product twice": ("analysis.attention", (*TINY, "--affinity", "qk", "qk"), "affinities qk, qk"),
    "a feature twice": ("clearclip.segment", ("--feature", "X_res", "X_res"), "each name once"),
    "no numbers": ("analysis.entropy", (*TINY, "--device", "meta"), "holds no numbers"),
    "no such device": ("analysis.entropy", (*TINY, "--device", "hpu"), "cannot be used here"),
    "data with a model": ("analysis.entropy", ("--data", "x.nc", *TINY), "goes without --model"),
    "data with pictures": (
        "analysis.entropy",
        ("--data", "x.nc", "--limit", "2", "--images", "a"),
        "--images, --limit",
    ),
    "photos beside a data set": ("analysis.maps", ("--images", "a", "--dataset", "voc20"), "leave out --dataset"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path):
    module, words, message = REFUSED[case]
    done = here(module, *words, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and message in done.stderr, done.stderr
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["", "scenes:x", "scenes:"])
def test_a_data_set_without_a_name_or_with_a_folder_too_many(name):
    with pytest.raises(UserError):
        parse(name)


def test_a_folder_has_no_splits(photos, tmp_path):
    own = tmp_path / "own"
    for part in ("images", "labels"):
        (own / part).mkdir(parents=True)
        (own / part / "photo_0.png").write_bytes((photos / "photo_0.png").read_bytes())
    (own / "classes.txt").write_text("sky\nsea\n")
    assert len(parse(str(own))) == len(load(own)) == len(load("folder", own)) == 1
    for dataset in (lambda: parse(str(own), split="train"), lambda: load("folder", own, split="val")):
        with pytest.raises(UserError, match="no splits"):
            dataset()
    done = here("clearclip.evaluate", *TINY, "--dataset", own, "--split", "x", cwd=tmp_path)
    assert done.returncode == 2 and "no splits" in done.stderr


@pytest.mark.parametrize("take", [pictures, find_images, lambda source: list(opened(source))])
def test_in_python_an_empty_name_is_not_the_folder_that_the_program_runs_in(take):
    with pytest.raises(UserError, match="a folder without a name"):
        take("")
