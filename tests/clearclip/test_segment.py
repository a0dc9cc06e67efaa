"""The command `python -m clearclip.segment`."""

import importlib.resources

import numpy as np
import pandas as pd
import pytest
from commands import files, here, process
from PIL import Image

from clearclip import load
from clearclip.datasets.drawn.scenes import Scenes
from clearclip.segmentation.result import side_by_side

CLASSES = "woman|astronaut, rocket, flag"
COMPARE = "clearclip.segmentation.result.side_by_side"
QUICK = (
    *("--model", "open_clip:ViT-S-32-alt", "--random", "--prompts", "photo"),
    *("--short-side", "64", "--device", "cpu", "--text-cache", "texts"),
)


@pytest.fixture(scope="module")
def model(tiny_clip):
    return load(tiny_clip, random=True, device="cpu")


def astronaut():
    return importlib.resources.files("skimage.data") / "astronaut.png"


@pytest.fixture(scope="module")
def photo():
    """A real photograph of 120 × 120 pixels, and so quick to draw."""
    with Image.open(astronaut()) as image:
        return image.convert("RGB").resize((120, 120))


def test_one_photo(tmp_path):
    words = ("--model", "clip_vitb32", *QUICK[2:], "--classes", CLASSES, "--background", "--threshold", "auto")
    done = process("-m", "clearclip.segment", astronaut(), *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RANDOM WEIGHTS" in done.stdout and "astronaut.png [clearclip]: " in done.stdout
    assert "background: auto: " in done.stdout and "Otsu" in done.stdout
    written = [f"results/segment/astronaut{end}" for end in (".npz", ".png", "_overlay.png")]
    assert files(tmp_path) == [*written, "results/segment/shares.csv"] and all(name in done.stdout for name in written)
    with np.load(tmp_path / written[0]) as saved, Image.open(tmp_path / written[1]) as image:
        assert saved["random_weights"] and np.array_equal(np.asarray(image), saved["labels"])
        assert saved["labels"].shape == (512, 512) and list(saved["classes"]) == [
            "background",
            "woman",
            "rocket",
            "flag",
        ]


def test_a_folder_with_a_broken_file(tmp_path, photo):
    for name in ("a.png", "deep/ünïcode b.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        photo.crop((0, 0, 100, 60)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bröken.jpg").write_bytes(b"\xff\xd8 no picture")
    words = ("--classes", "woman, sky", "--output", "out", "--compare", "clip", "clearclip")
    done = here("clearclip.segment", "in", *QUICK, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bröken.jpg" in done.stdout and "skipped 1 picture" in done.stdout and "RANDOM WEIGHTS" in done.stdout
    ends = [f"_{recipe}{end}" for recipe in ("clearclip", "clip") for end in (".npz", ".png", "_overlay.png")]
    expected = [f"{name}{end}" for name in ("a", "deep/ünïcode b") for end in (*ends, "_compare.png")]
    assert files(tmp_path / "out") == sorted([*expected, "shares.csv"])
    assert all(
        f"{name} [{recipe}]: " in done.stdout
        for name in ("a.png", "deep/ünïcode b.jpg")
        for recipe in ("clip", "clearclip")
    )


def test_strict_and_features(tmp_path, photo):
    """Strict stops at the broken file; what came before it is written."""
    (tmp_path / "in").mkdir()
    photo.save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    words = ("--classes", "woman, sky", "--strict", "--feature", "X_res", "X_attn", "X_sum")
    done = here("clearclip.segment", "in", *QUICK, *words, cwd=tmp_path)
    assert done.returncode == 2 and "broken.jpg" in done.stderr and "strict" in done.stderr
    assert "Traceback" not in done.stderr
    ends = [f"a_{name}{end}" for name in ("X_attn", "X_res", "X_sum") for end in (".npz", ".png", "_overlay.png")]
    assert files(tmp_path / "results" / "segment") == sorted([*ends, "a_compare.png"])


MISTAKES = {
    "no classes": (("a.png", *QUICK), "each class needs a name"),
    "a class twice": (("a.png", "--classes", "sky, sky", *QUICK), "each class once"),
    "no such photo": (("lost.png", "--classes", "a", *QUICK), "lost.png"),
    "compare and feature": (("a.png", "--classes", "a", *QUICK, "--compare", "clip", "--feature", "X_res"), "exclude"),
    "the default recipe and feature": (
        ("a.png", "--classes", "a", *QUICK, "--recipe", "clearclip", "--feature", "X_res"),
        "exclude",
    ),
    "unknown option": (("a.png", "--classses", "a"), "--classes"),
    "unknown feature": (("a.png", "--classes", "a", "--feature", "X_out"), "X_res"),
    "unknown recipe": (("a.png", "--classes", "a", *QUICK, "--recipe", "cleraclip"), "clearclip"),
    "unknown model": (("a.png", "--classes", "a", "--model", "clip_vitb17", "--random"), "clip_vitb16"),
    "threshold in words": (("a.png", "--classes", "a", *QUICK, "--background", "--threshold", "high"), "auto"),
    "short side": (("a.png", "--classes", "a", *QUICK, "--short-side", "1"), "at least 1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gives_one_message_and_code_2(name, tmp_path, photo):
    words, message = MISTAKES[name]
    photo.save(tmp_path / "a.png")
    done = here("clearclip.segment", *words, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr + done.stdout
    assert files(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--threshold", "0.5"), "--background"),
        (("--recipe", "proxyclip"), "--proxy dino_vitb8"),
        (("--recipe", "corrclip"), "--proxy dino_vitb8"),
        (("--regions", "a.png"), "takes no regions"),
        (("--background", "--threshold", "2"), "between 0 and 1"),
    ],
)
def test_mistakes_that_only_the_model_shows(words, message, model, monkeypatch, tmp_path, photo):
    monkeypatch.setattr("clearclip.models.load.load", lambda *args, **how: model)
    photo.save(tmp_path / "a.png")
    done = here("clearclip.segment", "a.png", "--classes", "a, b", *QUICK, *words, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr


def test_corrclip_with_regions(tmp_path):
    """A file for one photo, a folder for several; without them it works, too."""
    words = (
        *("--model", "clip_tiny", "--classes", "circle, grass, sky", "--recipe", "corrclip", "--proxy", "dino_tiny"),
        *QUICK[3:],
    )
    (tmp_path / "in").mkdir()
    for name, sample in zip("ab", Scenes("test", 2, 64), strict=False):
        sample.image.save(tmp_path / "in" / f"{name}.png")
        for folder in ("regions", "one"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(sample.label).save(tmp_path / folder / f"{name}.png")
    labels = {}
    for out, more in {"without": (), "with": ("--regions", "regions")}.items():
        done = here("clearclip.segment", "in", *words, *more, "--output", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        labels[out] = np.load(tmp_path / out / "a.npz")["labels"]
    done = here("clearclip.segment", "in/a.png", *words, "--regions", "one/a.png", "--output", "single", cwd=tmp_path)
    assert done.returncode == 0 and np.array_equal(np.load(tmp_path / "single/a.npz")["labels"], labels["with"])
    regions = Scenes("test", 2, 64)[0].label
    assert all(len(np.unique(labels["with"][regions == region])) == 1 for region in np.unique(regions)[1:])
    (tmp_path / "regions/b.png").unlink()
    done = here("clearclip.segment", "in", *words, "--regions", "regions", cwd=tmp_path)
    assert done.returncode == 2 and "no regions for b" in done.stderr
    done = here("clearclip.segment", "in", *words, "--recipe", "oracle", "corrclip", cwd=tmp_path)
    assert done.returncode == 2 and "told the true label of every pixel" in done.stderr


def test_scenes_have_the_labels_that_the_oracle_is_told(tmp_path):
    words = ("--recipe", "oracle", "--limit", "1", "--prompts", "photo", "--text-cache", "texts", "--output", "out")
    done = here("clearclip.segment", *words, cwd=tmp_path)
    assert done.returncode == 0 and "scene_0 [oracle]: " in done.stdout


def test_a_mistake_in_a_real_process(tmp_path):
    words = ("lost.png", "--classes", "a", "--model", "clip_vitb32", "--random")
    done = process("-m", "clearclip.segment", *words, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: lost.png") and "Traceback" not in done.stderr


def test_a_folder_without_one_picture_that_can_be_read(model, monkeypatch, tmp_path):
    monkeypatch.setattr("clearclip.models.load.load", lambda *args, **how: model)
    (tmp_path / "a.png").write_bytes(b"no picture")
    done = here("clearclip.segment", "a.png", "--classes", "a, b", *QUICK, cwd=tmp_path)
    assert done.returncode == 2 and "skipped 1 picture" in done.stdout and "not one picture" in done.stderr


def test_photos_of_one_name_do_not_overwrite_each_other(model, monkeypatch, tmp_path, photo):
    monkeypatch.setattr("clearclip.models.load.load", lambda *args, **how: model)
    for name in ("one/a.png", "two/a.png", "one/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        photo.save(tmp_path / name)
    words = ("one", "two", "--classes", "woman, sky", *QUICK, "--output", "out")
    assert here("clearclip.segment", *words, cwd=tmp_path).returncode == 0
    assert sum(name.endswith(".npz") for name in files(tmp_path / "out")) == 3


def test_results_that_would_replace_each_other_are_refused_before_the_first_picture(tmp_path, photo):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a_overlay.png"):
        photo.save(tmp_path / "in" / name)
    done = here("clearclip.segment", "in", "--classes", "a, b", *QUICK, "--output", "out", cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert "in/a.png [clearclip] and in/a_overlay.png [clearclip] would both be written to out/a_overlay" in done.stderr


def test_weights_that_overflow_in_half_precision_write_nothing(tmp_path, photo, monkeypatch):
    """Finite weights, for which half precision is too small: no labels, and the message says which precision to take."""
    small = load("clip_tiny", device="cpu", precision="fp16")
    small.blocks[4].module.attn.out_proj.bias[7] = 1e5
    monkeypatch.setattr("clearclip.models.load.load", lambda *args, **how: small)
    photo.save(tmp_path / "a.png")
    words = ("a.png", "--classes", "apple, grass", "--prompts", "photo", "--text-cache", "texts", "--precision", "fp16")
    done = here("clearclip.segment", *words, cwd=tmp_path)
    assert done.returncode == 2 and files(tmp_path) == ["a.png"]
    assert "a: non-finite values in the features of recipe clearclip of " in done.stderr
    assert "use bf16 or fp32" in done.stderr


def test_the_pixel_limit_of_pictures(tmp_path, photo, model, monkeypatch):
    monkeypatch.setattr("clearclip.models.load.load", lambda *args, **how: model)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    photo.save(tmp_path / "a.png")
    words = ("a.png", "--classes", "a, b", *QUICK)
    done = here("clearclip.segment", *words, cwd=tmp_path)
    assert done.returncode == 2 and "--max-pixels" in done.stdout
    assert here("clearclip.segment", *words, "--max-pixels", 14400, cwd=tmp_path).returncode == 0
    done = here("clearclip.segment", *words, "--max-pixels", 2**31, cwd=tmp_path)
    assert done.returncode == 2 and "max pixels 2147483648: a number from 1 to" in done.stderr


def test_nothing_named_segments_drawn_scenes_with_the_shipped_model(tmp_path):
    done = here("clearclip.segment", "--recipe", "clip", "--prompts", "photo", "--text-cache", "texts", cwd=tmp_path)
    assert done.returncode == 0 and "scene_0 [clip]: " in done.stdout
    assert "differs from the paper: clearclip/zoo/weights/clip_tiny.md" in done.stdout
    labels = np.load(tmp_path / "results" / "segment" / "scene_0.npz")
    assert labels["labels"].shape == (192, 192) and not labels["random_weights"] and str(labels["model"]) == "clip_tiny"


COMPARE = "clearclip.segmentation.result.side_by_side"


def test_a_recipe_is_not_a_picture_though_a_folder_has_its_name(monkeypatch, tmp_path, photo):
    """The scenes are compared, beside a folder that is called like a recipe, with their true labels."""
    for folder in ("clearclip", "clip"):
        (tmp_path / folder).mkdir()
        photo.save(tmp_path / folder / "a.png")
    drawn = []
    monkeypatch.setattr(COMPARE, lambda *given: drawn.append(side_by_side(*given)) or drawn[-1])
    words = ("--recipe", "clip", "clearclip", "--limit", "1", "--prompts", "photo", "--text-cache", "texts")
    done = here("clearclip.segment", *words, "--output", "out", cwd=tmp_path)
    assert done.returncode == 0 and "a.png" not in done.stdout
    assert (
        "out/scene_0_compare.png" in done.stdout
        and pd.read_csv(tmp_path / "out/shares.csv").picture.eq("scene_0").all()
    )
    panels = drawn[-1].axes
    assert [panel.get_title() for panel in panels] == ["photo", "ground truth", "CLIP", "ClearCLIP"]
    truth = Scenes("test", 1, 192)[0].label
    for panel, recipe in zip(panels[2:], ("clip", "clearclip"), strict=True):
        labels = np.load(tmp_path / "out" / f"scene_0_{recipe}.npz")["labels"]
        assert panel.get_xlabel() == f"{100 * (labels == truth).mean():.0f} % of pixels"


def test_words_that_compete_with_one_class(model, monkeypatch, tmp_path, photo):
    monkeypatch.setattr("clearclip.models.load.load", lambda *args, **how: model)
    photo.save(tmp_path / "photo.png")
    words = ("photo.png", *QUICK, "--classes", "rocket", "--contrast", "sky, ground", "--threshold", "0.5")
    done = here("clearclip.segment", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "results/segment/photo.npz") as saved:
        assert list(saved["classes"]) == ["background", "rocket"]


def test_templates_chosen_on_the_first_pictures(model, monkeypatch, tmp_path, photo):
    monkeypatch.setattr("clearclip.models.load.load", lambda *args, **how: model)
    (tmp_path / "in").mkdir()
    photo.save(tmp_path / "in" / "b.png")
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    quick = ["simple" if word == "photo" else word for word in QUICK]
    words = ("in", *quick, "--classes", "rocket, flag")
    for floss in ("0", "2", "1"):
        done = here("clearclip.segment", *words, "--floss", floss, "--output", floss, cwd=tmp_path)
        assert done.returncode == (2 if floss == "1" else 0), done.stderr
    assert "there is none" in done.stderr  # the first one cannot be read
    scores = [np.load(tmp_path / floss / "b.npz")["scores"] for floss in ("0", "2")]
    assert not np.array_equal(*scores)


def test_scenes_have_no_true_labels_for_other_classes(model, monkeypatch, tmp_path):
    monkeypatch.setattr("clearclip.models.load.load", lambda *args, **how: model)
    truths = []
    monkeypatch.setattr(COMPARE, lambda *given: truths.append(given[1:]) or side_by_side(*given))
    for words in (("--classes", "cat, grass"), ("--background",)):
        done = here("clearclip.segment", *QUICK, "--limit", 1, "--recipe", "clip", "sclip", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert [truth for truth in truths if truth] == [(None,), (None,)]  # overlays are drawn without a second argument
