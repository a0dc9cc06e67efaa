"""Class prototypes: against explicit loops, planted features, interruptions, shares, and as a command."""

from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from commands import here
from PIL import Image

import clearclip
from analysis import plots, read_rows
from analysis.plots.style import FEATURE_STYLE
from analysis.probes.probe import Probe
from analysis.prototypes import table as prototype_results
from analysis.prototypes.nearest import class_shares, nearest
from analysis.prototypes.nearest import prototypes as finished
from analysis.prototypes.run import measure, measure_models
from analysis.prototypes.sites import Features
from clearclip.datasets import Sample, load
from clearclip.errors import UserError
from clearclip.methods.windows import PatchLogits
from clearclip.models.block import FEATURES
from clearclip.runs import unfinished_files
from clearclip.segmentation.labelling import class_labels

SIZES = [(48, 64), (48, 64), (64, 40), (48, 64), (48, 64), (37, 51)]


class Few:
    """A handful of samples as a data set."""

    ignore_index = 255
    identity = "a few"

    def __init__(self, samples, classes, name="few"):
        self.samples, self.classes, self.name = samples, classes, name

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def few(count=6):
    """Scenes cut to different sizes, a stripe of each without label."""
    scenes = load("scenes", split="test", count=count, size=64)
    samples = []
    for (image, label, name), (height, width) in zip((scenes[i] for i in range(count)), SIZES, strict=False):
        label = label[:height, :width].copy()
        label[5:9] = 255
        samples.append(Sample(image.crop((0, 0, width, height)), label, name))
    return Few(samples, scenes.classes)


@pytest.fixture(scope="module")
def model():
    return clearclip.load("dino_tiny")


@pytest.fixture(scope="module")
def whole(model):
    return measure(model, few(), layers=[1, 6], short_side=32, batch_size=2, progress=False)


# the numbers ----------------------------------------------------------------------------------------------------------


def test_shares_are_areas():
    label = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 2, 255], (7, 10)))
    rows, columns = 3, 4
    expected = np.zeros((3, rows, columns))
    for r in range(rows):
        for c in range(columns):
            for y in range(7):
                for x in range(10):
                    high = max(0, min(y + 1, (r + 1) * 7 / rows) - max(y, r * 7 / rows))
                    wide = max(0, min(x + 1, (c + 1) * 10 / columns) - max(x, c * 10 / columns))
                    if label[y, x] < 3:
                        expected[label[y, x], r, c] += high * wide / (7 / rows * 10 / columns)
    np.testing.assert_allclose(class_shares(label, (rows, columns), 3), expected.reshape(3, -1), atol=1e-6)


def test_the_nearest_prototype_is_that_of_the_segmenters_own_labelling():
    cosines = torch.rand(3, 5, 4, 6)
    owner = torch.tensor([2, 3, 5, 7, 11])
    labels = nearest(cosines, (33, 47), owner)
    for one, label in zip(cosines, labels, strict=True):
        plain = F.interpolate(one[None], (33, 47), mode="bilinear")[0].argmax(0)
        assert torch.equal(label, owner[plain])
        assert torch.equal(label, class_labels(PatchLogits([((0, 0, 33, 47), one)], (33, 47), 1), (33, 47), owner))


def feature_maps(model, pixels):
    """X_res, X_attn and X_sum of layers 1 and 6, (rows · columns, D) each, as the probe reads them."""
    with torch.inference_mode(), Probe(model, (1, 6), keep=True) as probe:
        model(pixels)
    return {site: probe[site][0, 1:].double().numpy() for site in probe.sites}


def head_maps(model, pixels):
    """What each head of layers 1 and 6 gathers, (rows · columns, C) each, from the weights of timm's block, head by head."""
    maps = {}
    for layer, given in model.block_inputs(pixels, [1, 6]).items():
        block = model.model.blocks[layer - 1].double()
        y = block.norm1(given.x.double())[0]
        for head in range(3):
            q, k, v = (
                y @ block.attn.qkv.weight[start : start + 32].T + block.attn.qkv.bias[start : start + 32]
                for start in (32 * head + 96 * part for part in range(3))
            )
            maps[layer, head + 1] = ((q @ k.T / 32**0.5).softmax(1) @ v)[1:].detach().numpy()
        block.float()
    return maps


@pytest.mark.parametrize("place, maps_of", [("feature", feature_maps), ("head", head_maps)])
def test_against_explicit_loops(model, whole, place, maps_of):
    dataset = few()
    if place == "head":
        whole = measure(model, dataset, layers=[1, 6], heads=True, short_side=32, batch_size=2, progress=False)
    mean, std = (np.array(model.preprocessing[key])[:, None, None] for key in ("mean", "std"))
    maps, shares, truths = [], [], []
    for image, label, _ in dataset.samples:
        height, width = label.shape
        scale = 32 / min(height, width)
        rows, columns = (round(int(side * scale + 0.5) / 8) for side in (height, width))
        pixels = torch.tensor(np.asarray(image), dtype=torch.float32).permute(2, 0, 1)[None]
        pixels = F.interpolate(pixels, (rows * 8, columns * 8), mode="bilinear").round().clamp(0, 255)[0].numpy()
        images = torch.tensor((pixels / 255 - mean) / std, dtype=torch.float32)[None]
        maps.append({site: x.reshape(rows, columns, -1) for site, x in maps_of(model, images).items()})
        shares.append(
            class_shares(torch.from_numpy(label), (rows, columns), 26).double().numpy().reshape(26, rows, columns)
        )
        truths.append(label)

    for (layer, which), similarity in ((site, s) for site in maps[0] for s in ("cosine", "standardised")):
        patches = [
            (maps[i][layer, which][y, x], shares[i][:, y, x])
            for i in (0, 2, 4)
            for y, x in np.ndindex(shares[i].shape[1:])
        ]
        features, weights = np.stack([one for one, _ in patches]), np.stack([one for _, one in patches])
        shift, spread = np.zeros(features.shape[1]), np.ones(features.shape[1])
        if similarity == "standardised":
            shift = np.average(features, 0, weights.sum(1))
            spread = np.sqrt(np.average((features - shift) ** 2, 0, weights.sum(1)))
        known = {c: (np.average(features, 0, weights[:, c]) - shift) / spread for c in range(26) if weights[:, c].any()}
        confusion = np.zeros((26, 26))
        for i in (1, 3, 5):
            one = (maps[i][layer, which] - shift) / spread
            cosines = np.stack([one @ p / np.linalg.norm(one, axis=-1) / np.linalg.norm(p) for p in known.values()])
            large = F.interpolate(torch.tensor(cosines)[None], truths[i].shape, mode="bilinear")[0].numpy()
            labels = np.array(list(known))[large.argmax(0)]
            for true, found in zip(truths[i].ravel(), labels.ravel(), strict=True):
                if true != 255:
                    confusion[true, found] += 1
        got = whole.sel(
            {"model": "dino_tiny", "dataset": "few", "layer": layer, place: which, "similarity": similarity}
        )
        hits = np.diagonal(confusion)
        np.testing.assert_allclose(got.intersection, hits, atol=3)  # pixels between two classes turn with the last bit
        np.testing.assert_allclose(got.union, confusion.sum(0) + confusion.sum(1) - hits, atol=3)
        assert got.pixel_accuracy == pytest.approx(100 * hits.sum() / confusion.sum(), abs=0.1)
    assert whole.prototype_images.item() == 3 and whole.images.item() == 3
    np.testing.assert_allclose(whole.prototype_patches[0, 0], sum(shares[i].sum((1, 2)) for i in (0, 2, 4)), rtol=1e-5)


def test_features_that_are_the_class_give_everything(model, monkeypatch):
    """Maps planted into the run: one-hot of the class that a stripe of the picture shows."""
    rng = np.random.default_rng(0)
    samples = []
    for i in range(4):
        label = np.tile(rng.permutation(5).repeat(8), (24, 1))
        samples.append(
            Sample(Image.fromarray(np.repeat((label * 50).astype(np.uint8)[..., None], 3, 2)), label, f"{i}")
        )

    @contextmanager
    def planted(sites, reduce):
        model, layers = sites.model, sites.layers
        mean, std = model.preprocessing["mean"][0], model.preprocessing["std"][0]

        def forward(images):
            shown = ((images[:, 0, 4::8, 4::8] * std + mean) * 255 / 50).round().long().flatten(1)
            return [reduce(site, F.one_hot(shown, 96).float() + site) for site in range(3 * len(layers))]

        yield forward

    monkeypatch.setattr(Features, "probed", planted)
    classes = [*"abcdef"]
    found = measure(model, Few(samples, classes), layers=[1], short_side=24, progress=False)
    np.testing.assert_array_equal(found.miou.sel(similarity="standardised"), 100)
    np.testing.assert_array_equal(found.miou.sel(similarity="cosine"), 100)
    np.testing.assert_array_equal(found.iou.isel(layer=0, feature=0, similarity=0)[0, 0], [100] * 5 + [np.nan])


def test_large_channels_decide_alone_unless_standardised():
    """A channel that is large everywhere hides the class from the cosine, and a constant one says nothing."""
    rng = np.random.default_rng(0)
    x = np.concatenate([np.eye(2)[rng.integers(0, 2, 40)], 100 + rng.normal(0, 30, (40, 1)), np.full((40, 1), 7.0)], 1)
    shares = x[:, :2].T
    known = finished(shares.sum(1), shares @ x, (x**2).sum(0))
    assert known.scale[3] == 0 and known.seen.tolist() == [0, 1]
    np.testing.assert_allclose(known.mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(known.scale[:3], 1 / x.std(0)[:3], rtol=1e-6)
    raw, standard = (vectors @ vectors.T for vectors in known.vectors)
    assert raw[0, 1] > 0.99 and standard[0, 1] < -0.9


def test_a_class_that_the_first_half_lacks_is_never_found_and_named(whole):
    one = next(prototype_results.panels(whole))
    lacking = (one.prototype_patches == 0).values
    assert lacking.any() and (one.intersection.values[..., lacking] == 0).all()
    labels = {index for i in (1, 3, 5) for index in np.unique(few().samples[i].label)} - {255}
    missed = [one["class"].values[index] for index in sorted(labels) if lacking[index]]
    assert (
        missed and prototype_results.summary(one)[-1] == f"not in the first half, so never found: {', '.join(missed)}"
    )


# runs -----------------------------------------------------------------------------------------------------------------


def test_another_short_side_does_not_continue_the_run(model, tmp_path):
    settings = {"layers": [1], "short_side": 32, "progress": False, "unfinished": tmp_path / "unfinished.nc"}
    measure(model, few(2), **settings)
    with pytest.raises(UserError, match="other short side"):
        measure(model, few(2), **settings | {"short_side": 40})


def test_several_data_sets_are_kept_until_their_result_is_written(model, whole, tmp_path):
    settings, output = {"layers": [1, 6], "short_side": 32, "batch_size": 2, "progress": False}, tmp_path / "mine.nc"
    second = few(2)
    second.name = "second"
    got = measure_models([lambda: model], [few(), second], output, **settings)
    assert len(list(tmp_path.iterdir())) == 4  # one for each half of each
    np.testing.assert_array_equal(got.iou.sel(dataset="few"), whole.iou.sel(dataset="few"))
    unfinished_files.write_result(got, output)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.nc"]


def folder(root, count=6):
    """A folder data set, the picture 2 of which is broken."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(root / "images" / f"{i}.png")
        Image.fromarray(np.full((40, 48), i % 3, np.uint8)).save(root / "labels" / f"{i}.png")
    (root / "images" / "2.png").write_bytes(b"no picture")
    (root / "classes.txt").write_text("void\ncat\ndog\n")
    return root


def test_broken_pictures_are_counted_in_their_half(model, tmp_path):
    got = measure(model, load("folder", folder(tmp_path / "mine")), layers=[1], short_side=32, progress=False)
    assert got.prototype_images.item() == 2 and got.images.item() == 3 and "2.png" in got.attrs["skipped"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"limit": 1}, "at least two"),
        ({"short_side": 7}, "one patch of 8"),
        ({"layers": [7]}, "1 … 6"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_done_is_refused(model, settings, message):
    with pytest.raises(UserError, match=message):
        measure(model, few(), progress=False, **settings)


def test_values_that_are_not_finite_are_refused_by_name(model):
    broken = clearclip.load("dino_tiny")
    with torch.no_grad():
        broken.model.blocks[5].attn.proj.bias[0] = torch.nan
    with pytest.raises(UserError, match="X_attn of layer 6"):
        measure(broken, few(2), short_side=32, progress=False)


def test_heads_that_are_not_finite_are_refused_by_name():
    broken = clearclip.load("dino_tiny")
    with torch.no_grad():
        broken.model.blocks[4].attn.qkv.bias[2 * 96 + 32] = torch.nan  # v of the second head
    with pytest.raises(UserError, match="head 2 of layer 5"):
        measure(broken, few(2), layers=[4, 5], heads=True, short_side=32, progress=False)


def test_no_labelled_pixel_in_the_first_half_is_refused(model):
    dataset = few(2)
    dataset.samples[0].label[:] = 255
    with pytest.raises(UserError, match="no pixel of the first half"):
        measure(model, dataset, layers=[1], short_side=32, progress=False)


# Dataset, figure, command ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def joined(whole):
    """Two models, the second one of two layers and random weights, on two data sets."""
    other = whole.assign_coords(model=["other"], random_weights=("model", [True])).isel(layer=[0])
    second = [one.assign_coords(dataset=["second"]).isel({"class": slice(3)}) for one in (whole, other)]
    return prototype_results.merge([whole, second[0], other, second[1]])


def test_models_and_data_sets_are_joined_and_what_one_lacks_is_nan(joined, whole):
    assert dict(joined.miou.sizes) == {"model": 2, "dataset": 2, "layer": 2, "feature": 3, "similarity": 2}
    np.testing.assert_array_equal(joined.iou.sel(model="dino_tiny", dataset="few"), whole.iou[0, 0])
    assert joined.miou.sel(model="other", layer=6).isnull().all()
    assert joined.iou.sel(dataset="second").isel({"class": slice(3, None)}).isnull().all()
    assert joined.random_weights.values.tolist() == [False, True] and joined.images.dims == ("model", "dataset")
    assert [one.sizes["layer"] for one in prototype_results.panels(joined)] == [2, 2, 1, 1]


def test_table_and_rows_hold_the_numbers(joined):
    one = next(prototype_results.panels(joined))
    table = prototype_results.table(one)
    value = one.miou.sel(layer=6, feature="X_attn", similarity="standardised").item()
    assert table.loc[6, ("standardised", "X_attn")] == value
    rows = prototype_results.tidy(joined)
    chosen = rows.query("model == 'dino_tiny' and dataset == 'few' and layer == 6 and feature == 'X_attn'")
    chosen = chosen[(chosen.similarity == "standardised") & (chosen["class"] == "mean")]
    assert chosen.iou.tolist() == [value] and not chosen.random_weights.any()
    best = one.miou.sel(similarity="cosine").max().item()
    assert f"{best:.1f} mIoU; last layer: X_res" in prototype_results.summary(one)[0]


def test_figure_has_a_line_for_each_feature_and_similarity(joined):
    figure = plots.prototypes(joined)
    panels = np.array(figure.axes).reshape(2, 2)
    for row, name in zip(panels, joined.dataset.values, strict=True):
        for panel, model in zip(row, joined.model.values, strict=True):
            assert len(panel.lines) == 6
            for line in panel.lines:
                feature, similarity = line.get_label().split()
                expected = joined.miou.sel(model=model, dataset=name, feature=feature, similarity=similarity)
                np.testing.assert_array_equal(line.get_ydata(), expected.dropna("layer"))
                assert line.get_color() == FEATURE_STYLE[feature]["color"]
                assert (line.get_markerfacecolor() == "white") == (similarity == "standardised")
    assert [panel.get_title() for panel in panels[0]] == ["dino_tiny", "other\nrandom weights"]
    assert "few" in panels[0, 0].get_ylabel() and "second" in panels[1, 0].get_ylabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][3:] == ["cosine", "standardised"]
    assert "shipped with the toolkit" in figure.get_supxlabel()


def test_command(tmp_path):
    words = ("--model", "dino_tiny", "--limit", "4", "--layers", "1", "6", "--batch-size", "4")
    done = here("analysis.prototypes", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dino_tiny on scenes, short side 128 px: mIoU in percent of 2 pictures" in done.stdout
    assert "standardised: best X_" in done.stdout
    assert "wrote results/prototypes.nc, results/prototypes.csv, results/prototypes.png" in done.stdout
    written = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert written == [f"prototypes.{suffix}" for suffix in ("csv", "nc", "png")]
    dataset = prototype_results.read(tmp_path / "results" / "prototypes.nc")
    assert dataset.attrs["command"].startswith("python -m analysis.prototypes --model dino_tiny")
    assert dataset.feature.values.tolist() == list(FEATURES) and dataset.layer.values.tolist() == [1, 6]
    assert set(pd.read_csv(tmp_path / "results" / "prototypes.csv").similarity) == {"cosine", "standardised"}
    rows = read_rows(tmp_path / "results" / "prototypes.nc").to_csv(index=False)
    assert rows == (tmp_path / "results" / "prototypes.csv").read_text()
    again = ("--data", tmp_path / "results" / "prototypes.nc", "--figure", tmp_path / "again.pdf")
    assert here("analysis.prototypes", *again, cwd=tmp_path).returncode == 0
    assert (tmp_path / "again.pdf").read_bytes().startswith(b"%PDF")


def test_command_for_heads(tmp_path):
    words = ("--limit", "2", "--layers", "1", "6", "--short-side", "32")
    done = here("analysis.prototypes", "--heads", "--model", "clip_tiny", "dino_tiny", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cosine: best head " in done.stdout and "of 6 heads reach" in done.stdout
    file = tmp_path / "results" / "prototypes.nc"
    dataset = prototype_results.read(file)
    assert dataset.attrs["format"] == "clearclip head prototypes 1"
    assert dataset["head"].values.tolist() == [1, 2, 3] and dataset.miou.dims[2:] == ("layer", "head", "similarity")
    assert {"head", "layer", "iou"} <= set(pd.read_csv(file.with_suffix(".csv")).columns)
    figure = plots.prototype_heads(dataset)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == [f"{value:.0f}" for value in dataset.miou[0, 0, :, :, 0].values.ravel()]
    again = here("analysis.prototypes", "--data", file, "--figure", tmp_path / "again.pdf", cwd=tmp_path)
    assert again.returncode == 0 and (tmp_path / "again.pdf").is_file()
    features = here(
        "analysis.prototypes", "--model", "dino_tiny", *words, cwd=tmp_path
    )  # is measured, not taken for heads
    assert features.returncode == 0 and prototype_results.read(file).feature.size == 3


@pytest.mark.parametrize(
    "words, hint",
    [
        (("--dataset", "voc99"), "voc20"),
        (("--dataset", "scenes", "scenes"), "each name once"),
        (("--output", "x.csv"), ".nc"),
        (("--data", "lost.nc"), "lost.nc"),
    ],
)
def test_a_mistake_gets_one_message_and_exit_code_2(words, hint, tmp_path):
    done = here("analysis.prototypes", *words, cwd=tmp_path)
    assert done.returncode == 2 and hint in done.stderr
