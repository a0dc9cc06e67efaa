r"""Names that are no formulas: every figure shows $5, \frac and worse as they are, under any settings of the reader's own."""

import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from sweeps import sweep

import clearclip
from analysis import attribute, plots, worth
from analysis.attribution import peaks
from analysis.attribution.directions import of_vectors
from analysis.plots.style import ATTENTION_LABEL, FEATURE_LABEL, IDENTITY
from analysis.probes.attention import token_attention
from analysis.probes.collection import collect
from analysis.probes.feature_maps import feature_maps
from analysis.probes.images import pictures
from analysis.probes.label_maps import label_maps
from analysis.probes.pca import pca_maps
from analysis.probes.similarity import similarity_maps
from analysis.probes.statistics import FIGURE_4, TOKENS
from analysis.prototypes.run import measure
from analysis.sweeps import recipe_lists
from analysis.textspan.run import measure as texts_of_heads
from clearclip.datasets import load
from clearclip.methods.recipes import Recipe
from clearclip.segmentation.overlay import Row, draw_rows, explained
from clearclip.segmentation.style import MATH, style, write
from figures.catalogue import ENTRIES

MODEL, DATASET, PICTURE, CLASS = r"$\frac$", "cost $5, price $6", "a$x^$b\n\x07.png", r"\$ % _ {} $\nope"
VECTORS = {CLASS: np.ones(64), DATASET: np.arange(64.0)}  # directions of the text space
OWN = {"text.parse_math": False, "text.usetex": True, "font.family": "serif"}  # what a reader may have set


@pytest.fixture(scope="module")
def model():
    return clearclip.load("clip_tiny", device="cpu")


@pytest.fixture(scope="module")
def scenes():
    return load("scenes", split="test", count=2, size=32)


def renamed(dataset):
    """Every name that comes from a user, made as hostile as can be."""
    names = {
        "model": MODEL,
        "dataset": DATASET,
        "image": PICTURE,
        "class": CLASS,
        "predicted": CLASS,
        "source": DATASET,
    }
    coords = {
        name: (dataset[name].dims, np.array([f"{text} {i}" for i in range(dataset[name].size)], dtype=object))
        for name, text in names.items()
        if name in dataset.coords
    }
    return dataset.assign_coords(coords).assign_attrs({"dataset": DATASET} if "dataset" in dataset.attrs else {})


FIGURES = (*(name for name in plots.__all__ if name != "layer_lines"), "fig1_radar")
STATISTICS = ("entropy", "maxima", "norms", "channels", "tokens")
SWEEPS = {
    "ablation": recipe_lists.ablation,
    "ablation_by_dataset": recipe_lists.ablation,
    "alpha": recipe_lists.alpha,
    "beta": recipe_lists.beta,
    "compare": recipe_lists.compare,
    "fig1_radar": recipe_lists.compare,
    "norms_and_miou": recipe_lists.norms,
}


@pytest.fixture(scope="module")
def statistics(model):
    return renamed(collect(model, ["photographs", "scenes"], FIGURE_4 + TOKENS, limit=1, progress=False))


def dataset_of(name, model, scenes, request):
    """What a figure is drawn of, with hostile names."""
    if name in STATISTICS:
        return request.getfixturevalue("statistics")
    if name in SWEEPS:
        return renamed(sweep(SWEEPS[name](), ("a", "b"), ("mine", "yours", "ours"), norms=name == "norms_and_miou"))
    return renamed(
        {
            "layers": lambda: sweep(recipe_lists.layers(model), ("a",), ("mine", "yours")),
            "prototypes": lambda: measure(model, scenes, layers=[6], progress=False),
            "prototype_heads": lambda: measure(model, scenes, layers=[6], heads=True, progress=False),
            "textspan": lambda: texts_of_heads(model, scenes, [MODEL, DATASET], layers=[6], progress=False),
            "textspan_share": lambda: texts_of_heads(model, scenes, ["a ball", "sand"], layers=[6], progress=False),
            "attribution": lambda: attribute(model, scenes, limit=1, directions=of_vectors(model, VECTORS)),
            "sources": lambda: attribute(
                model, scenes, limit=1, directions=of_vectors(model, VECTORS), from_tokens=True
            ),
            "components": lambda: worth(model, scenes, progress=False),
            "peaks": lambda: peaks.measure(model, pictures(scenes)),
            "attention": lambda: token_attention(model, scenes, [6]),
            "pca": lambda: pca_maps(model, pictures(scenes), [6]),
            "similarity": lambda: similarity_maps(model, pictures(scenes), (0.5, 0.5), [6]),
            "feature_maps": lambda: feature_maps(model, scenes, [6]),
            "label_maps": lambda: label_maps(
                model, [scenes[0]], scenes.classes, ["clip", "X_res", Recipe(r"mine $\frac$", "qq")]
            ),
        }[name]()
    )


def formulas(figure):
    """The texts of a figure that matplotlib reads as mathematics."""
    return [text.get_text() for text in figure.findobj(Text) if "$" in text.get_text() and text.get_parse_math()]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_shows_names_as_they_are(name, model, scenes, request, tmp_path):
    dataset = dataset_of(name, model, scenes, request)
    with mpl.rc_context(OWN):  # a reader's notebook
        figure = getattr(plots, name, ENTRIES.get(name) and ENTRIES[name].draw)(dataset)
    write(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").is_file()
    for text in figure.findobj(Text):
        if "$" in MATH.sub("", text.get_text()):
            assert not text.get_parse_math() and not text.get_usetex(), text
    assert all(MATH.search(text) and "$" not in MATH.sub("", text) for text in formulas(figure))


def test_our_own_mathematics_stays(statistics):
    assert set(FEATURE_LABEL.values()) <= set(formulas(plots.entropy(statistics)))
    for text in (*ATTENTION_LABEL.values(), IDENTITY, r"$\alpha$ in $X_\mathrm{res} + \alpha\,X_\mathrm{attn}$"):
        assert "$" not in MATH.sub("", text), text


def test_characters_that_the_font_lacks_are_one_note(tmp_path):
    with style():
        figure, axes = plt.subplots()
        axes.set_title("日本語 \x07 עברית")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write(figure, tmp_path / "figure.png")
    assert [str(warning.message) for warning in caught] == [
        "the font of figures lacks some characters of a name, which are drawn as boxes"
    ]


def test_a_legend_has_room_for_long_names(tmp_path):
    classes = ["x" * 3000, "$5 _hidden", "_hidden"]
    picture, labels = np.zeros((40, 60, 3), np.uint8), np.arange(2400).reshape(40, 60) % 3
    rows = [Row(picture, {"clip": labels})]
    figure = draw_rows(rows, explained(rows, classes), classes[0])
    write(figure, tmp_path / "figure.png")
    names = [text.get_text() for text in figure.legends[0].texts]
    assert names[1:] == classes[1:] and len(names[0]) < 60
