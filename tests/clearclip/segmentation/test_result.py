"""Results without a model: their files, their figures, and the palette."""

import numpy as np
import pytest
import torch
from PIL import Image

from clearclip.methods.windows import PatchLogits
from clearclip.segmentation.overlay import Row, class_colors, explained, handles, palette
from clearclip.segmentation.result import Segmentation, overlaid, side_by_side
from clearclip.segmentation.scoremaps import ScoreMaps


def made(labels, classes, random_weights=True):
    picture = Image.new("RGB", labels.shape[::-1], "white")
    logits = PatchLogits([((0, 0, 1, 1), torch.zeros(len(classes), 1, 1))], (1, 1), 1)
    scores = ScoreMaps(logits, labels.shape, torch.arange(len(classes)), len(classes))
    return Segmentation(picture, labels, scores, tuple(classes), "clip", "some_clip", random_weights, "none")


def test_more_than_256_classes_are_saved_with_16_bits(tmp_path):
    labels = np.uint16([[0, 299, 256], [255, 1, 2]])
    written = made(labels, [f"class {i}" for i in range(300)]).save(tmp_path, "many")
    with Image.open(written[0]) as image:
        assert np.array_equal(np.asarray(image), labels)


def test_256_classes_have_a_palette(tmp_path):
    labels = np.uint8([[0, 255, 254], [7, 8, 128]])
    written = made(labels, [f"class {i}" for i in range(256)]).save(tmp_path, "many")
    with Image.open(written[0]) as image:
        assert image.mode == "P" and np.array_equal(np.asarray(image), labels)


def test_the_palette_begins_alike_and_its_colours_differ():
    colors = palette(60)
    assert colors.shape == (60, 3) and colors.min() >= 0 and colors.max() <= 1
    assert np.array_equal(palette(5), colors[:5])
    assert len({tuple(color) for color in (colors * 255).round()}) == 60


def test_a_class_has_one_color_with_and_without_background():
    classes = [f"class {i}" for i in range(30)]
    colors = class_colors(classes)
    np.testing.assert_array_equal(class_colors(["background", *classes])[1:], colors)
    gray = class_colors(["background", *classes])[0]
    assert gray[0] == gray[1] == gray[2] and not (colors == gray).all(1).any()


def test_a_legend_names_true_classes_first_and_counts_the_rest():
    labels = np.arange(40, dtype=np.uint8).repeat(10).reshape(20, 20)
    row = Row(np.zeros((20, 20, 3), np.uint8), {"clip": labels}, np.full((20, 20), 39, np.uint8))
    colors = explained([row], list(map(str, range(40))))
    assert next(iter(colors.legend)) == "39" and len(colors.legend) == 14 and colors.unexplained == 26
    np.testing.assert_array_equal(colors.of, class_colors(list(map(str, range(40)))))
    assert handles(colors)[-1].get_label() == "and 26 more"


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_the_figure_of_one_result():
    labels = np.uint8([[0, 0, 3], [3, 3, 0]])
    figure = made(labels, ["woman", "rocket", "flag", "sky"]).figure()
    assert [axis.get_title() for axis in figure.axes] == ["photo", "CLIP"]
    assert texts(figure) == ["woman", "sky"]  # those that occur
    faces = [patch.get_facecolor()[:3] for patch in figure.legends[0].get_patches()]
    assert np.allclose(faces, palette(4)[[0, 3]])
    assert "RANDOM WEIGHTS" in figure.get_suptitle() and "some_clip" in figure.get_suptitle()


@pytest.mark.filterwarnings("error")
def test_a_long_legend_leaves_the_pictures_their_size():
    heights = []
    for count in (2, 40, 100):
        labels = np.resize(np.arange(count, dtype=np.uint8), (30, 40))
        figure = made(labels, [f"some class {i}" for i in range(count)]).figure()
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height)
    assert min(heights) > 0.85 * heights[0] > 80


def test_trained_weights_have_no_warning():
    assert made(np.uint8([[0]]), ["woman"], random_weights=False).figure().get_suptitle() == "some_clip"


def test_recipes_side_by_side():
    rows = [
        {name: made(np.full((4, 6), i, np.uint8), ["a", "b", "c"]) for name in ("clip", "clearclip")} for i in (0, 2)
    ]
    figure = side_by_side(rows, truth=[np.full((4, 6), 1, np.uint8), np.full((4, 6), 255, np.uint8)])
    assert [axis.get_title() for axis in figure.axes] == ["photo", "ground truth", "CLIP", "ClearCLIP", "", "", "", ""]
    assert texts(figure) == ["a", "b", "c"]  # b occurs in the true labels only
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    assert np.allclose(shown[1], palette(3)[1]) and np.allclose(shown[5], 1)  # 255 is not labelled
    assert np.allclose(shown[6], overlaid(rows[1]["clip"])) and not np.allclose(shown[2], shown[6])


def test_the_overlay_lies_over_the_grey_picture():
    one = made(np.uint8([[0, 1]]), ["a", "b"])
    black = Segmentation(Image.new("RGB", (2, 1)), *(getattr(one, key) for key in list(one.__dataclass_fields__)[1:]))
    assert np.allclose(overlaid(one) - overlaid(black), 0.38, atol=1e-6)
    assert np.allclose(overlaid(black)[0] / 0.62, palette(2))
