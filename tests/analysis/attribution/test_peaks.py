"""Peaks against plain loops: where they stand, and what every head and neuron of a small model has written."""

import dataclasses

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from open_clip.model import CLIP

import clearclip
from analysis import plots
from analysis.attribution.peak_tables import asked, holders, ranked, report, shares, tidy
from analysis.attribution.peaks import MAPS, largest, measure
from analysis.attribution.writers import COMPONENTS, written
from analysis.probes import store
from analysis.probes.feature_maps import feature_maps
from analysis.probes.images import pictures as photographs
from analysis.probes.probe import Probe
from analysis.readings.peaks import peaks as reading
from clearclip.errors import UserError
from clearclip.interventions import Channels, Clamp, Heads, Neurons, Registers, intervene
from tests.small_models import block_inputs, config, noisy, pictures, split, visual_of

HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}
NAMES = (
    "vit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "eva02_base_patch16_clip_224",
)


def wrapped(module):
    return noisy(clearclip.wrap(module.eval().requires_grad_(False), "model", preprocessing=HALVES))


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return wrapped(CLIP(**config(3)))


@pytest.fixture(scope="module", params=["open_clip", *NAMES])
def family(request):
    torch.manual_seed(0)
    if request.param == "open_clip":
        return wrapped(CLIP(**config(3)))
    return wrapped(timm.create_model(request.param, **SMALL, dynamic_img_size=True))


@pytest.fixture(scope="module")
def dataset():
    return measure(clearclip.load("dino_tiny", device="cpu"), photographs(limit=3))


# where peaks stand ----------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(3, 6)), elements=st.integers(-90, 90).map(float))
)
def test_the_largest_entries_of_a_map_are_those_of_a_sorted_list(x):
    found = largest(torch.from_numpy(x))
    ordered = sorted(np.abs(x).ravel(), reverse=True)
    assert found.value.abs().tolist() == ordered[:3]
    assert float(found.median) == ordered[x.size // 2]
    for value, token, channel, share in zip(*(part.tolist() for part in found[:4]), strict=True):
        assert x[token, channel] == value
        assert not value or share == pytest.approx(value**2 / (x[token] ** 2).sum())
    assert len({*zip(found.token.tolist(), found.channel.tolist(), strict=True)}) == 3


def test_peaks_are_those_of_the_maps_themselves(dataset):
    model = clearclip.load("dino_tiny", device="cpu")
    maps = feature_maps(model, photographs(limit=3), layers=range(1, 7)).feature_map.isel(model=0)
    for image, layer, feature in ((0, 1, "X_res"), (1, 6, "X_attn"), (2, 4, "X_sum")):
        x = maps.isel(image=image).sel(layer=layer, feature=feature).values
        token, channel = np.unravel_index(np.abs(x).argmax(), x.shape)
        found = dataset.isel(model=0, image=image).sel(layer=layer, feature=feature, rank=1)
        assert (int(found.peak_token), int(found.peak_channel)) == (token, channel)
        assert float(found.peak) == pytest.approx(x[token, channel])
        patch = (np.nan, np.nan) if token == 0 else divmod(token - 1, 8)
        np.testing.assert_array_equal((float(found.peak_row), float(found.peak_column)), patch)
    own, following = (dataset.sel(feature="X_out", layer=slice(1, 5)), dataset.sel(feature="X_res", layer=slice(2, 6)))
    np.testing.assert_array_equal(own.peak, following.peak)  # what a block hands on is the next one's X_res


def test_peaks_among_patches_stand_on_patches():
    patches = measure(clearclip.load("dino_tiny", device="cpu"), photographs(limit=2), among="patches")
    assert (patches.peak_token >= 1).all() and patches.peak_row.notnull().all()
    assert float(abs(shares(patches.isel(model=0), "written").sum() - 1)) < 1e-4


# who wrote them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_the_parts_add_up_to_the_value_of_the_map(family, dtype, tolerance):
    model = dataclasses.replace(family, model=family.model.to(dtype))
    image = pictures((24, 40))[0].to(dtype)
    try:
        for layer, feature in ((1, "X_res"), (3, "X_res"), (2, "X_attn"), (3, "X_sum"), (2, "X_out"), (3, "X_out")):
            with torch.inference_mode(), Probe(model, keep=True, outputs=True) as probe:
                model(image[None])
            x = probe[layer, feature][0]
            token, channel = divmod(int(x.abs().argmax()), model.width)
            parts = written(model, image, layer, feature, token, channel)
            assert abs(parts.value - x[token, channel]) <= tolerance * abs(x[token, channel])
            assert abs(parts.components.sum() - parts.value) <= tolerance * abs(parts.value)
            assert not parts.interventions.any() and not parts.components[layer:].any()
            kept = slice(layer - 1, None) if feature == "X_res" else slice(layer, None)
            assert not parts.heads[kept].any() and (feature == "X_out" or not parts.activations[layer - 1 :].any())
    finally:
        family.model.float()


def test_heads_and_neurons_by_plain_loops_over_the_weights(clip):
    """Every neuron and every head of every block, one by one, in float64."""
    visual, image = visual_of(clip), pictures((24, 40))[0]
    for token, channel in ((0, 7), (9, 33)):
        parts = written(clip, image, 3, "X_out", token, channel)
        _, inputs = block_inputs(visual, image.double())
        assert float(parts.embedding) == pytest.approx(float(inputs[0][token, channel]), abs=1e-5)
        for i, (block, x) in enumerate(zip(visual.transformer.resblocks, inputs, strict=True)):
            width = x.shape[1] // 4
            for h, (q, k, v) in enumerate(split(block, x)[1]):
                weights = (q[token] @ k.T / width**0.5).softmax(0)
                row = block.attn.out_proj.weight[channel, h * width : (h + 1) * width]
                expected = sum(float(weights[j] * (row @ v[j])) for j in range(len(v)))
                assert float(parts.heads[i, h]) == pytest.approx(expected, abs=1e-5)
            x_sum = x + block.attn(*[block.ln_1(x)[None]] * 3, need_weights=False)[0][0]
            hidden = block.mlp[1](block.mlp[0](block.ln_2(x_sum[token])))
            for n in range(len(hidden)):
                expected = float(hidden[n] * block.mlp[2].weight[channel, n])
                assert float(parts.neurons[i, n]) == pytest.approx(expected, abs=1e-5)
            biases = block.attn.out_proj.bias[channel] + block.mlp[2].bias[channel]
            assert float(parts.biases[i]) == pytest.approx(float(biases), abs=1e-5)


def test_a_neuron_without_its_weight_takes_away_what_it_wrote(clip):
    """Behind the block itself, where nothing has reacted yet."""
    image = pictures((32, 32))[0]
    parts = written(clip, image, 2, "X_out", 5, 11)
    n = int(parts.neurons[1].abs().argmax())
    without = intervene(clip, Neurons(2, (n,)))
    changed = written(without, image, 2, "X_out", 5, 11)
    assert float(parts.value - changed.value) == pytest.approx(float(parts.neurons[1, n]), abs=1e-5)
    assert not changed.activations[1, n] and abs(changed.interventions).max() < 1e-5


@pytest.mark.parametrize("change", [Channels(2, (11,)), Channels(2, (11,), "X_sum", "mean"), Channels(1, (11,), "X_attn"),
                                    Clamp(3, 0.5), Heads(2, (1,)), Registers(2, ((1, 4),))])  # fmt: skip
def test_with_interventions_the_parts_add_up_and_say_what_was_put_in(clip, change):
    view, image = intervene(clip, change), pictures((32, 32))[0]
    parts = written(view, image, 3, "X_sum", 9, 11)
    assert float(parts.components.sum()) == pytest.approx(float(parts.value), abs=1e-5)
    put_in = float(parts.interventions.abs().max())
    assert put_in < 1e-5 if isinstance(change, Heads | Registers) else put_in > 1e-3


def test_the_named_neurons_are_the_strongest_of_all(dataset):
    model = clearclip.load("dino_tiny", device="cpu")
    total = np.zeros((6, 384))
    peaks = dataset.isel(model=0).sel(layer=6, feature="X_res", rank=1)
    for i, picture in enumerate(photographs(limit=3)):
        place = peaks.isel(image=i)
        image = model.transform()(picture.read())
        parts = written(model, image, 6, "X_res", int(place.peak_token), int(place.peak_channel))
        total += parts.neurons.numpy() / float(place.peak) / 3
    order = np.argsort(-np.abs(total).ravel())[:10]
    named = ranked(dataset.isel(model=0), "written_by_neuron")
    assert [(each.layer - 1, int(each.part)) for each in named] == [divmod(int(at), 384) for at in order]
    np.testing.assert_allclose([each.share for each in named], total.ravel()[order], rtol=1e-4)
    np.testing.assert_allclose(dataset.neuron_activation * dataset.neuron_weight, dataset.written_by_neuron, rtol=1e-5)
    heads = dataset.written.sel(component="attention")
    np.testing.assert_allclose(dataset.written_by_head.sum("head"), heads, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dataset.written.sum(("layer", "component")), peaks.peak.values[None], rtol=1e-4)


def test_what_is_not_there_is_refused():
    model = clearclip.load("dino_tiny", device="cpu")
    for words, message in (({"layer": 7}, "layers 1 … 6"), ({"feature": "X"}, "X_out"), ({"among": "cls"}, "patches")):
        with pytest.raises(UserError, match=message):
            measure(model, photographs(limit=1), **words)


# what is shown --------------------------------------------------------------------------------------------------------


def test_holders_are_counted_picture_by_picture(dataset):
    rows = holders(dataset).set_index(["layer", "feature", "channel"])
    for layer in (1, 6):
        for feature in MAPS:
            places = dataset.isel(model=0).sel(layer=layer, feature=feature, rank=1)
            for channel in set(places.peak_channel.values.tolist()):
                held = [i for i in range(3) if int(places.peak_channel[i]) == channel]
                row = rows.loc[(layer, feature, channel)]
                assert (row.images, row.steadiness) == (len(held), len(held) / 3)
                assert row.value == pytest.approx(float(places.peak[held].mean()))
                assert row.positive == sum(float(places.peak[i]) > 0 for i in held)
                assert (row.CLS, row.register, row.patch) == (
                    sum(int(places.peak_token[i]) == 0 for i in held), 0, sum(int(places.peak_token[i]) > 0 for i in held)
                )  # fmt: skip
    assert len(tidy(dataset)) == 3 * 6 * 4 * 3


def test_two_models_of_different_depth_stand_in_one_dataset(dataset):
    deep = measure(clearclip.load("timm:test_vit3", random=True, device="cpu"), photographs(limit=3), image_size=64)
    both = store.merge_models([dataset, deep])
    alone = shares(deep.isel(model=0), "written").values
    np.testing.assert_array_equal(shares(both.isel(model=1), "written").sel(layer=deep.layer), alone)
    assert report(dataset) in report(both) and reading(dataset) == reading(both)[:3]
    figure = plots.peaks(both)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "dino_tiny" and any("random weights" in text for text in titles)


def by_hand(channels=(3, 3, 5), tokens=(0, 4, 4)):
    """Three pictures of a model with CLS: of a peak of 10 the FFN of layer 2 has written 7, neuron 9 alone 4, head 2 2."""
    shape = (1, 3, 2, 4, 1)
    dims = ("model", "image", "layer", "feature", "rank")
    coords = {"model": ["m"], "image": list("abc"), "layer": [1, 2], "feature": list(MAPS), "rank": [1],
              "component": list(COMPONENTS), "head": [1, 2], "top": [1], "asked_layer": ("model", [2]),
              "asked_feature": ("model", ["X_out"]), "among": ("model", ["all"]), "prefix_tokens": ("model", [1])}  # fmt: skip
    values = {name: (dims, np.ones(shape)) for name in ("peak", "peak_row", "peak_column")}
    values["peak_share"] = (dims, np.full(shape, 0.5))
    for name, numbers in (("peak_channel", channels), ("peak_token", tokens)):
        values[name] = (dims, np.broadcast_to(np.reshape(numbers, (1, 3, 1, 1, 1)), shape))
    values["median"] = (dims[:-1], np.ones(shape[:-1]))
    dataset = xr.Dataset(values, coords)
    dataset.peak.loc[{"layer": 2}] = 10.0
    parts = np.zeros((1, 3, 2, 5))
    parts[..., 0, 0], parts[..., 1, 1], parts[..., 1, 2] = 1, 2, 7
    heads = np.zeros((1, 3, 2, 2))
    heads[..., 1, 1] = 2
    return dataset.assign(
        written=(("model", "image", "layer", "component"), parts),
        written_by_head=(("model", "image", "layer", "head"), heads),
        written_by_neuron=(("model", "image", "top"), np.full((1, 3, 1), 4.0)),
        neuron_layer=(("model", "top"), [[2]]),
        neuron=(("model", "top"), [[9]]),
    )


def test_the_reading_says_where_and_who():
    where, who, size = reading(by_hand())
    assert where == (
        "m: the peak of X_out in layer 2 stands in channel 3 (2 of 3 pictures, positive), otherwise in 1 other channel, on CLS "
        "in 1 and on a patch in 2."
    )
    assert who == (
        "70% of it was written by the FFN of layer 2; the strongest neuron, neuron 9 of layer 2, wrote 40%, and the strongest "
        "head, head 2 of layer 2, 20%."
    )
    assert size == (
        "It holds 50% of its token's squared norm; its magnitude, 10, is 10 times the median of its map and 10 times the peak "
        "of X_out in layer 1."
    )
    steady = reading(by_hand((5, 5, 5), (0, 0, 0)))[0]
    assert steady.endswith("stands in channel 5 (3 of 3 pictures, positive), on CLS in 3.")
    with pytest.raises(UserError, match="no peak of X_out in layer 2"):
        asked(by_hand().isel(model=0).drop_sel(layer=2))


def test_registers_are_told_from_cls():
    torch.manual_seed(0)
    model = wrapped(timm.create_model(NAMES[1], **SMALL, dynamic_img_size=True))
    found = measure(model, photographs(limit=2))
    rows = tidy(found)
    assert set(rows[rows.token.between(1, 4)].kind) <= {"register"} and set(rows[rows.token >= 5].kind) == {"patch"}
    assert (rows.row.isnull() == (rows.kind != "patch")).all()
