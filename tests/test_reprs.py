"""What a notebook shows of our objects: one short line, or a picture."""

import clearclip
from analysis import Probe, collect, table
from clearclip import RECIPES, Segmenter
from clearclip.datasets import load


def test_short_lines_and_pictures():
    model = clearclip.load("clip_tiny", device="cpu")
    assert repr(model).startswith("Backbone(clip_tiny: ") and "6 × 96" in repr(model) and len(repr(model)) < 300
    assert "<table>" in model._repr_html_() and "6 × 96" in model._repr_html_()
    assert "RANDOM" in repr(clearclip.load("clip_tiny", random=True, device="cpu"))
    assert repr(Probe(model, [1, 6], keep=True)).endswith("X_res, X_attn, X_sum of layers 1, 6; 0 maps read)")
    scenes = load("scenes", count=2)
    assert repr(scenes) == "Scenes(scenes: 2 pictures, 26 classes)"
    segmenter = Segmenter(model, "apple, grass")
    assert repr(segmenter) == "Segmenter(clip_tiny: clearclip; 2 classes: apple, grass)"
    result = segmenter(scenes[0].image)
    assert repr(result).startswith("Segmentation(clip_tiny, clearclip: ")
    assert result._repr_png_().startswith(b"\x89PNG")


def test_a_recipe_shows_its_formula():
    assert repr(RECIPES["clearclip"]) == "Recipe(clearclip: Proj(A[qq]·v))"
    assert "<i>A</i><sub>qq</sub>" in RECIPES["clearclip"]._repr_html_()
    assert RECIPES["clip"].variant(alpha=2.0, beta=0.05).formula.startswith("X_res without its strongest 5 %")


def test_tables_have_two_dimensions():
    model = clearclip.load("clip_tiny", device="cpu")
    rows = table(collect(model, limit=2, progress=False))
    assert rows.index.names == ["model", "layer", "feature"] and len(rows) == 18
    scores = clearclip.evaluate(model, load("scenes", count=2), ["clip", "sclip"], progress=False)
    assert clearclip.table(scores).shape == (2, 1) and table(scores).equals(clearclip.table(scores))
