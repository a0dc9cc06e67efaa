import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import ade20k, folder, shared, voc, write
from PIL import Image
from skimage import data
from torchmetrics.classification import MulticlassJaccardIndex

import clearclip
from clearclip.datasets import Sample, load
from clearclip.errors import UserError
from clearclip.evaluation import measurement
from clearclip.evaluation.protocol import PROTOCOLS
from clearclip.evaluation.run import evaluate
from clearclip.evaluation.scores import iou_scores
from clearclip.evaluation.table import merge
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.methods.windows import Windows
from clearclip.pictures import BadImage
from clearclip.segmentation.floss import choose_templates, with_experts
from clearclip.segmentation.segmenter import Segmenter

CLASSES = ["background", "cat|kitten", "grass", "sky", "rocket"]
QUIET = {"prompts": "photo", "progress": False}


@pytest.fixture(scope="module")
def model(tiny_clip):
    backbone = clearclip.load(tiny_clip, random=True, device="cpu")
    for name, parameter in backbone.model.visual.named_parameters():  # patches that differ, and noise on every bias
        if parameter.ndim == 1:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.2)
    return backbone


class Made:
    """Crops of a photograph with random labels, some ignored; `broken` ones cannot be read."""

    ignore_index = 255

    def __init__(self, count=6, name="made", classes=CLASSES, broken=()):
        self.name, self.classes, self.broken, self.read = name, list(classes), broken, []
        rng, photo = np.random.default_rng(0), data.astronaut()
        self.samples = []
        for i in range(count):
            height, width = rng.integers(20, 90, 2)
            y, x = rng.integers(0, 400, 2)
            label = rng.integers(0, len(classes) - 1, (height, width))  # the last class never occurs
            label[rng.random(label.shape) < 0.1] = 255
            image = Image.fromarray(photo[y : y + height, x : x + width])
            self.samples.append(Sample(image, label[: image.height, : image.width].astype(np.uint8), f"crop {i}"))

    identity = "crops of the astronaut"

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.read.append(index)
        if index in self.broken:
            raise BadImage(f"crop {index}.png: the file is broken")
        return self.samples[index]


def counted(truth, predicted, classes):
    """The confusion matrix, pixel by pixel."""
    matrix = np.zeros((classes, classes), np.int64)
    for true, found in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if true != 255:
            matrix[true, found] += 1
    return matrix


def by_hand(model, dataset, recipe, threshold=0.0, windows=None, batch=4):
    """The confusion matrix from the labels that a `Segmenter` gives, a few pictures together as in a run."""
    background = {"background": True, "threshold": threshold} if threshold else {}
    segmenter = Segmenter(model, dataset.classes, recipe, windows=windows, prompts="photo", **background)
    samples = [dataset[i] for i in range(len(dataset))]
    labels = [
        one.labels
        for i in range(0, len(samples), batch)
        for one in segmenter([s.image for s in samples[i : i + batch]])
    ]
    return sum(counted(s.label, label, len(dataset.classes)) for s, label in zip(samples, labels, strict=True))


# the numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.0, 0.25])
def test_confusion_matrices_equal_a_count_pixel_by_pixel(model, threshold):
    dataset = Made()
    got = evaluate(model, dataset, ["clip", "clearclip"], threshold=threshold, **QUIET)
    assert dict(got.sizes) == {"model": 1, "dataset": 1, "recipe": 2, "class": 5, "predicted": 5}
    for recipe in ("clip", "clearclip"):
        expected = by_hand(model, dataset, recipe, threshold)
        assert np.array_equal(got.confusion.sel(recipe=recipe).squeeze().values, expected)
        assert expected.sum() == sum((s.label != 255).sum() for s in dataset.samples)
        assert (expected.sum(0) > 0).sum() > 1
    assert got.threshold.values.tolist() == [[threshold, threshold]] and got.images.item() == 6
    assert got["class"].values.tolist() == CLASSES


def test_one_pass_equals_a_run_for_each_recipe(model):
    recipes = ["clip", "sclip", "clearclip", Recipe("mine", "vv", ffn=False, alpha=2.0)]
    together = evaluate(model, Made(), recipes, **QUIET)
    for recipe in recipes:
        alone = evaluate(model, Made(), recipe, **QUIET)
        name = recipe if isinstance(recipe, str) else recipe.name
        xr.testing.assert_equal(together.sel(recipe=[name]), alone)


def test_the_oracle_is_told_the_truth_and_nobody_else(monkeypatch):
    """corrclip would take regions, but the true ones would be cheating."""
    model, proxy, scenes = (clearclip.load("clip_tiny"), clearclip.load("dino_tiny"), load("scenes", count=3))
    told = []
    encode = clearclip.DenseEncoder.encode

    def spy(self, crops, norms, regions, texts, owner, truth, *more):
        told.append((regions, truth))
        return encode(self, crops, norms, regions, texts, owner, truth, *more)

    monkeypatch.setattr(clearclip.DenseEncoder, "encode", spy)
    result = evaluate(model, scenes, ["oracle", "corrclip", "clearclip"], proxy=proxy, **QUIET)
    assert all(regions is None and truth is not None for regions, truth in told)
    segment = Segmenter(
        model, scenes.classes, ["oracle"], windows=PROTOCOLS["clearclip"].windows("scenes", model), prompts="photo"
    )
    expected = sum(
        counted(sample.label, segment(sample.image, truth=sample.label).labels, len(scenes.classes))
        for sample in (scenes[i] for i in range(3))
    )
    assert np.abs(result.confusion.sel(recipe="oracle").values[0, 0] - expected).sum() <= 20  # batches round otherwise
    told.clear()
    evaluate(model, scenes, ["corrclip"], proxy=proxy, limit=1, **QUIET)
    assert told == [(None, None)]


def test_every_picture_is_read_once_for_all_recipes(model):
    dataset = Made()
    evaluate(model, dataset, ["clip", "sclip", "clearclip"], **QUIET)
    assert sorted(dataset.read) == list(range(6))


def test_the_batch_size_moves_hardly_a_pixel(model):
    """Larger batches round in other places; only pixels between two classes may change."""
    one, many = (evaluate(model, Made(), ["clip"], batch_size=size, **QUIET).confusion.values for size in (1, 16))
    assert np.abs(one - many).sum() <= 0.001 * one.sum()


@given(st.integers(2, 9), st.integers(0, 2**31), st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_scores_equal_torchmetrics(classes, seed, ignored):
    rng = np.random.default_rng(seed)
    occurring = rng.choice(classes, rng.integers(1, classes + 1), replace=False)
    truth, predicted = rng.choice(occurring, (3, 8, 9)), rng.choice(occurring, (3, 8, 9))
    truth[rng.random(truth.shape) < ignored] = 255
    got = iou_scores(sum(counted(t, p, classes) for t, p in zip(truth, predicted, strict=True)))
    if (truth == 255).all():
        assert np.isnan(got["miou"]) and np.isnan(got["iou"]).all()
        return
    pair = torch.from_numpy(predicted), torch.from_numpy(truth)
    each = MulticlassJaccardIndex(classes, ignore_index=255, average="none", validate_args=False)(*pair).numpy()
    mean = MulticlassJaccardIndex(classes, ignore_index=255, average="macro", validate_args=False)(*pair).item()
    seen = ~np.isnan(got["iou"])
    kept = truth != 255
    assert np.array_equal(seen, np.isin(np.arange(classes), np.union1d(truth[kept], predicted[kept])))
    np.testing.assert_allclose(got["iou"][seen], 100 * each[seen], rtol=1e-5)
    np.testing.assert_allclose(got["miou"], 100 * mean, rtol=1e-5)
    np.testing.assert_allclose(got["pixel_accuracy"], 100 * (truth == predicted)[kept].mean(), rtol=1e-12)


def test_classes_that_do_not_occur_are_nan_and_not_in_the_mean(model):
    got = evaluate(model, Made(), ["clip", "sclip"], **QUIET)
    for recipe in ("clip", "sclip"):
        one = got.sel(recipe=recipe).squeeze()
        confusion = one.confusion.values
        absent = (confusion.sum(0) + confusion.sum(1)) == 0
        assert np.array_equal(np.isnan(one.iou.values), absent)
        assert one.miou.item() == pytest.approx(np.mean(one.iou.values[~absent]))
        assert np.array_equal(one.intersection.values, np.diag(confusion))
        assert one.pixel_accuracy.item() == pytest.approx(100 * np.trace(confusion) / confusion.sum())
        np.testing.assert_allclose(one.iou, 100 * one.intersection / one.union)


def test_on_real_photographs_and_labels(model):
    """MSRC: the count pixel by pixel, and torchmetrics."""
    dataset = load("folder", shared("msrc"))
    got = evaluate(model, dataset, "sclip", limit=3, **QUIET).squeeze()
    part = SimpleNamespace(classes=dataset.classes)
    samples = [dataset[i] for i in range(3)]
    labels = [
        one.labels for one in Segmenter(model, part.classes, "sclip", prompts="photo")([s.image for s in samples])
    ]
    expected = sum(counted(s.label, label, 23) for s, label in zip(samples, labels, strict=True))
    assert np.array_equal(got.confusion.values, expected) and got.images.item() == 3
    metric = MulticlassJaccardIndex(23, ignore_index=255, average="macro", validate_args=False)
    for sample, label in zip(samples, labels, strict=True):
        metric.update(
            torch.from_numpy(label.astype(np.int64))[None], torch.from_numpy(sample.label.astype(np.int64))[None]
        )
    assert got.miou.item() == pytest.approx(100 * metric.compute().item(), rel=1e-5)


# data sets in their own layout ---------------------------------------------------------------------------------------


def enlarged(root, raw, picture, label):
    """The hand-made pair with a photograph, and label ids in blocks."""
    Image.fromarray(data.astronaut()[100:160, 150:234]).save(root / picture)
    write(root / label, np.kron(np.resize(raw, (5, 7)), np.ones((12, 12))))


def test_voc21_has_its_thresholds(model, tmp_path):
    raw = [*range(21), 255]
    base = voc(tmp_path, raw) / "VOCdevkit/VOC2012"
    enlarged(base, raw, "JPEGImages/2007_000033.jpg", "SegmentationClass/2007_000033.png")
    dataset = load("voc21", tmp_path)
    got = evaluate(model, dataset, ["clip", "clearclip"], **QUIET)
    assert got.threshold.values.tolist() == [[0.2, 0.5]]
    for recipe, level in (("clip", 0.2), ("clearclip", 0.5)):
        assert np.array_equal(got.confusion.sel(recipe=recipe).squeeze(), by_hand(model, dataset, recipe, level))
    assert got.dataset.item() == "voc21" and got.split.item() == "val"
    without = evaluate(model, load("voc20", tmp_path), ["clip"], **QUIET)
    assert without.threshold.item() == 0 and without.sizes["class"] == 20
    assert without.confusion.sum() == 60 * 84 - 144 * sum(i in (0, 255) for i in np.resize(raw, 35))


def test_thresholds_of_the_protocol_at_work(model):
    """Three classes, so that some scores lie above and some below."""
    dataset = Made(name="voc21", classes=["background", "cat", "grass"])
    got = evaluate(model, dataset, ["clip", "clearclip"], **QUIET)
    for recipe, level in (("clip", 0.2), ("clearclip", 0.5)):
        assert np.array_equal(got.confusion.sel(recipe=recipe).squeeze(), by_hand(model, dataset, recipe, level))


def test_ade20k(model, tmp_path):
    raw = [0, 1, 2, 45, 104, 150]
    base = ade20k(tmp_path, raw) / "ADEChallengeData2016"
    enlarged(
        base,
        raw,
        *(f"{kind}/validation/ADE_val_00000001.{end}" for kind, end in (("images", "jpg"), ("annotations", "png"))),
    )
    dataset = load("ade20k", tmp_path)
    got = evaluate(model, dataset, "clearclip", **QUIET)
    assert np.array_equal(got.confusion.squeeze(), by_hand(model, dataset, "clearclip"))
    assert got.sizes["class"] == 150 and got.confusion.sum() == 144 * (35 - 6)


def test_a_folder_with_several_names_of_one_class(model, tmp_path):
    root = folder(tmp_path / "mine", [1, 2, 0, 255], "void", "cat|kitten", "grass", "sky")
    enlarged(root, [1, 2, 3, 0, 255], "images/a.jpg", "labels/a.png")
    dataset = load("folder", root)
    got = evaluate(model, dataset, "clip", **QUIET)
    assert got["class"].values.tolist() == ["cat|kitten", "grass", "sky"] and got.dataset.item() == "mine"
    assert np.array_equal(got.confusion.squeeze(), by_hand(model, dataset, "clip"))
    queries = Segmenter(model, dataset.classes, "clip", prompts="photo").queries
    assert queries.owner.tolist() == [0, 0, 1, 2]


def test_protocol(model):
    """Thresholds and windows of the published numbers (paper.md, section 4)."""
    clip, clear, protocol = RECIPES["clip"], RECIPES["clearclip"], PROTOCOLS["clearclip"]
    own = {"voc21": 0.5, "context60": 0.15, "coco_object": 0.4}
    for name in (
        "voc20",
        "voc21",
        "context59",
        "context60",
        "coco_object",
        "coco_stuff",
        "cityscapes",
        "ade20k",
        "mine",
    ):
        assert protocol.level(name, clear).threshold == own.get(name, 0)
        assert protocol.level(name, clip).threshold == (0.2 if name == "voc21" else own.get(name, 0))
    assert protocol.level("voc21", Recipe("another name of it")).threshold == 0.2
    assert protocol.level("voc21", clip.variant(alpha=2.0)).threshold == 0.5
    large = SimpleNamespace(image_size=224)
    assert protocol.windows("voc20", large) == Windows(448, 2048, 448, 224)
    assert protocol.windows("cityscapes", large) == Windows(448, 2048, 224, 224)
    assert protocol.windows("cityscapes", model) == Windows(64, 292, 32, 32)  # in proportion


# norms ---------------------------------------------------------------------------------------------------------------


def test_templates_chosen_on_the_first_pictures_without_labels():
    model, names = clearclip.load("clip_tiny", device="cpu"), ["house", "grass", "sky", "snow", "boat"]
    made, quiet = Made(3, classes=names, broken=(1,)), QUIET | {"prompts": "simple"}
    result = evaluate(model, made, "clearclip", floss=2, **quiet)
    segmenter = Segmenter(
        model, made.classes, "clearclip", windows=PROTOCOLS["clearclip"].windows("made", model), prompts="simple"
    )
    best = choose_templates(segmenter, [made.samples[0].image])
    assert json.loads(result.templates.item()) == best and result.attrs["floss"] == 2
    experts, confusion = with_experts(segmenter, best), np.zeros((5, 5), int)
    for sample in (made.samples[0], made.samples[2]):
        confusion += counted(sample.label, experts(sample.image).labels, 5)
    assert np.abs(result.confusion.values[0, 0, 0] - confusion).sum() <= 4  # of ties
    plain = evaluate(model, made, "clearclip", **quiet)
    assert not np.array_equal(plain.confusion, result.confusion) and "templates" not in plain.coords
    sets = [evaluate(model, Made(2, name, names), "clearclip", floss=1, **quiet) for name in ("one", "two")]
    assert merge(sets).templates.shape == (1, 2)
    with pytest.raises(UserError, match="floss -1"):
        evaluate(model, made, "clearclip", floss=-1, **QUIET)


def test_norms_equal_the_probes_and_a_computation_by_hand(model):
    from analysis.probes.probe import Probe

    dataset = Made(3)
    windows = Windows(32, 32, 32, 32)  # one window a picture; the short side is padded
    square = [Sample(s.image.resize((32, 32)), np.zeros((32, 32), np.uint8), s.name) for s in dataset.samples]
    dataset.samples = square
    got = evaluate(model, dataset, ["clip", "clearclip"], windows=windows, norms=True, **QUIET)
    assert got.x_res_norm.dims == got.x_attn_norm.dims == ("model", "dataset", "recipe")
    mean, std = (torch.tensor(model.preprocessing[key])[:, None, None] for key in ("mean", "std"))
    images = torch.stack([torch.from_numpy(np.array(s.image)).permute(2, 0, 1) for s in square]) / 255
    with torch.inference_mode(), Probe(model, keep=True) as probe:
        maps = probe.run((images - mean) / std)
        block, x = model.blocks[-1], maps[2, "X_res"]
        y = block.norm1(x)
        q, _, v = block.qkv(y, None)
        attention = (q @ q.mT * q.shape[-1] ** -0.5).softmax(-1)
        x_attn = block.output(attention @ v, y)
    expected = {"clip": maps[2, "X_attn"], "clearclip": x_attn}
    for recipe, one in expected.items():
        here = got.sel(recipe=recipe)
        assert here.x_attn_norm.item() == pytest.approx(one[:, 1:].norm(dim=(1, 2)).mean().item(), rel=1e-5)
        assert here.x_res_norm.item() == pytest.approx(x[:, 1:].norm(dim=(1, 2)).mean().item(), rel=1e-5)
    assert "x_attn_norm" not in evaluate(model, dataset, "clip", windows=windows, **QUIET)


# interrupted, broken, mistaken ---------------------------------------------------------------------------------------


def interrupt(monkeypatch, after, error=KeyboardInterrupt):
    """Stop the run at the n-th batch."""
    original, left = measurement.Evaluation.update, [after]

    def update(measurement, total, pictures):
        if left[0] == 0:
            raise error
        left[0] -= 1
        return original(measurement, total, pictures)

    monkeypatch.setattr(measurement.Evaluation, "update", update)


CHANGE = r"( \([^)]*\))?"  # what a fact was and is


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"limit": 5}, "limit"),
        ({"batch_size": 4}, "batch size"),
        ({"prompts": "simple"}, "prompts"),
        ({"threshold": 0.1}, "protocol, thresholds"),
        ({"windows": Windows(32, 64, 32, 16)}, "protocol, windows"),
        ({"protocol": "sclip"}, "protocol, windows"),
        ({"norms": True}, "norms"),
        ({"recipe": "sclip"}, "recipes"),
        ({"dataset": Made(5)}, "data set"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_run_is_refused_with_what_differs(model, tmp_path, monkeypatch, change, fact):
    kept = tmp_path / "kept.nc"
    asked = {"dataset": Made(), "recipe": "clip", "batch_size": 2, "unfinished": kept, **QUIET}
    if isinstance(change.get("dataset"), Made):
        change["dataset"].identity = "other crops"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 1)
        evaluate(model, **asked)
    with pytest.raises(
        UserError, match=rf"holds an interrupted run with other {fact.replace(',', CHANGE + ',')}{CHANGE}\. "
    ):
        evaluate(model, **asked | change)


def test_what_cannot_be_used_is_named_counted_and_skipped_or_refused(model, tmp_path, capsys):
    root = folder(tmp_path / "mine", [0], "cat", "grass")
    enlarged(root, [0, 1], "images/a.jpg", "labels/a.png")
    for name in ("b", "c", "d"):
        enlarged(root, [0, 1], f"images/{name}.jpg", f"labels/{name}.png")
    (root / "images/b.jpg").write_bytes(b"no picture")
    (root / "labels/c.png").write_bytes(b"no label")
    write(root / "labels/d.png", [[0]])
    got = evaluate(model, load("folder", root), "clip", **QUIET)
    said = capsys.readouterr().out
    assert got.images.item() == 1 and len(json.loads(got.attrs["skipped"])) == 3
    for name in ("b.jpg", "c.png", "d.png"):
        assert name in said and name in got.attrs["skipped"]
    assert got.confusion.sum() == 60 * 84
    with pytest.raises(UserError, match=r"b\.jpg.*refused because of strict"):
        evaluate(model, load("folder", root), "clip", strict=True, **QUIET)
    (root / "images/a.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="not one picture of mine could be used"):
        evaluate(model, load("folder", root), "clip", **QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.5, "dataset": Made(classes=["cat", "grass"])}, "made has no class background"),
        ({"dataset": Made(name="voc21", classes=["cat", "grass"])}, "voc21 has no class background"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"threshold": -0.5}, "between 0 and 1"),
        ({"threshold": float("nan")}, "between 0 and 1"),
        ({"limit": 0}, "at least one picture"),
        ({"recipe": "cleraclip"}, "Closest: clearclip"),
        ({"recipe": []}, "at least one"),
        ({"recipe": ["clip", "clip"]}, "each name once"),
        ({"recipe": "proxyclip"}, "second model"),
        ({"batch_size": 0}, "at least 1"),
        ({"prompts": "many"}, "imagenet, simple, photo"),
    ],
)
def test_mistakes(model, options, message):
    with pytest.raises(UserError, match=message):
        evaluate(model, **{"dataset": Made(1), "recipe": "clip", **QUIET} | options)


def test_a_model_without_text_tower(dino):
    with pytest.raises(UserError, match=r"text|CLIP"):
        evaluate(dino, Made(1), "clip", **QUIET)


def test_the_result_says_where_it_comes_from(model):
    got = evaluate(model, Made(2), ["clip", "clearclip"], **QUIET)
    assert bool(got.random_weights[0]) and got.precision.item() == "fp32" and len(got.weights_sha256.item()) == 64
    assert got.attention.values.tolist() == ["qk", "qq"] and got.residual.values.tolist() == [True, False]
    assert got.layer.values.tolist() == [0, 0] and got.alpha.values.tolist() == [1, 1]
    for fact in ("libraries", "command", "created"):
        assert got.attrs[fact]
    assert all(one.attrs["long_name"] and one.attrs["units"] for one in got.data_vars.values())
