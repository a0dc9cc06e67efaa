import numpy as np
import pytest
import torch
import xarray as xr

import clearclip
from analysis.probes import statistics as st
from analysis.probes import store
from analysis.probes.collection import collect, collect_models, result
from analysis.probes.images import pictures
from analysis.probes.probe import Probe
from analysis.probes.statistics import FIGURE_4, STATISTICS, TOKENS, Statistic
from clearclip.errors import UserError
from clearclip.runs import results, unfinished_files

SIZE = 48  # 3 × 3 patches
QUIET = {"image_size": SIZE, "batch_size": 2, "progress": False}


def same(a: xr.Dataset, b: xr.Dataset) -> bool:
    drop = ("created", "command")
    strip = [
        d.assign_attrs({}).drop_attrs(deep=False).assign_attrs({k: v for k, v in d.attrs.items() if k not in drop})
        for d in (a, b)
    ]
    return strip[0].identical(strip[1])


@pytest.fixture(scope="module")
def maps(dino, tmp_path_factory):
    """The whole maps of a few pictures, one picture at a time: what every statistic is checked against."""
    transform = dino.transform(SIZE)
    chosen = pictures(limit=3)
    with torch.inference_mode(), Probe(dino, keep=True) as probe:
        return chosen, [probe.run(transform(picture.read())[None]) for picture in chosen]


@pytest.mark.parametrize("name", sorted(STATISTICS))
@pytest.mark.parametrize("tokens", ["patches", "all"])
def test_equals_a_loop_over_images_layers_and_features(dino, maps, name, tokens):
    chosen, kept = maps
    got = collect(dino, chosen, [name], **QUIET)[name].sel(model="dino_vits16", tokens=tokens)
    statistic, start = STATISTICS[name], 1 if tokens == "patches" else 0
    for layer in (1, 7, 12):
        for feature in ("X_res", "X_attn", "X_sum"):
            per_image = torch.stack([statistic.function(one[layer, feature][0, start:]) for one in kept]).numpy()
            here = got.sel(layer=layer, feature=feature)
            if statistic.dims == ("token",):
                assert np.isnan(here[:start]).all() if start else True
                here = here[start:]
            expected = per_image.mean(0) if statistic.dims else per_image
            np.testing.assert_allclose(here, expected, rtol=2e-4, atol=2e-5)


def test_the_dataset_is_as_promised(dino, photos):
    got = collect(dino, photos, FIGURE_4 + TOKENS, **QUIET)
    assert got.entropy.dims == ("model", "image", "layer", "feature", "tokens")
    assert got.channel_mean_sorted.dims == ("model", "layer", "feature", "tokens", "channel")
    assert got.token_norm.dims == ("model", "layer", "feature", "tokens", "token")
    assert got.layer.values.tolist() == list(range(1, 13))
    assert got.feature.values.tolist() == ["X_res", "X_attn", "X_sum"]
    assert got.image.values.tolist() == [f"photo_{i}.png" for i in range(9)]
    assert all(v.dtype == np.float32 and v.attrs["long_name"] and v.attrs["units"] for v in got.data_vars.values())
    assert bool(got.random_weights[0]) and "random" in str(got.weights.values[0])
    for fact in ("libraries", "command", "created", "image_list_sha256", "images"):
        assert got.attrs[fact]
    assert int(got.rows[0]) == 3 and int(got.prefix_tokens[0]) == 1


def test_netcdf_round_trip(dino, photos, tmp_path):
    got = collect(dino, photos, FIGURE_4 + TOKENS, **QUIET)
    results.write(got, tmp_path / "deep" / "result.nc")
    assert store.read(tmp_path / "deep" / "result.nc").identical(got.assign_attrs(format="clearclip statistics 1"))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.nc"]


def test_a_model_without_prefix_tokens_has_the_same_patches_and_all():
    siglip = clearclip.load("timm:vit_base_patch16_siglip_224.webli", random=True)
    got = collect(siglip, None, ["entropy", "token_norm"], layers=[12], limit=1, image_size=32, progress=False)
    assert got.sel(tokens="all").drop_vars("tokens").identical(got.sel(tokens="patches").drop_vars("tokens"))


def test_own_statistic_and_subset_of_sites(dino, photos):
    spread = {"spread": Statistic(lambda x: x.std((-2, -1)), "spread", "model units")}
    got = collect(dino, photos, spread, layers=[2, 5], features=["X_attn"], **QUIET)
    assert dict(got.spread.sizes) == {"model": 1, "image": 9, "layer": 2, "feature": 1, "tokens": 2}
    assert float(got.spread.min()) > 0


def test_an_unfinished_file_of_another_run_is_refused(dino, photos, tmp_path):
    kept = tmp_path / "kept.nc"
    collect(dino, photos, ["entropy"], unfinished=kept, **QUIET)
    with pytest.raises(UserError, match=r"kept\.nc holds an interrupted run with other image size"):
        collect(dino, photos, ["entropy"], unfinished=kept, **(QUIET | {"image_size": 32}))


@pytest.mark.parametrize("shards", [2, 3, 7])
def test_shards_give_the_undivided_result(dino, photos, shards):
    (photos / "photo_4.png").write_bytes(b"broken")
    names = ["entropy", "channel_mean", "token_norm"]
    states = [collect(dino, photos, names, shard=(i, shards), **QUIET) for i in range(shards)]
    joined = result(states[::-1], dino, photos, SIZE)
    assert same(joined, collect(dino, photos, names, **QUIET))
    with pytest.raises(UserError, match=r"shards .* are needed"):
        result(states[1:], dino, photos, SIZE)
    with pytest.raises(UserError, match=r"are needed"):
        result([states[0]] * shards, dino, photos, SIZE)


def test_bad_images_are_not_in_the_result(dino, photos):
    (photos / "photo_5.png").write_bytes(b"broken")
    got = collect(dino, photos, ["entropy"], **QUIET)
    assert "photo_5.png" not in got.image and got.sizes["image"] == 8 and "photo_5.png" in got.attrs["skipped"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_values_are_named_with_image_layer_and_feature(dino, photos, value):
    bias = dino.blocks[4].module.attn.proj.bias
    before = bias.clone()
    try:
        bias[7] = value
        with pytest.raises(UserError, match=r"photo_0\.png: non-finite values in X_attn of layer 5"):
            collect(dino, photos, FIGURE_4, **QUIET)
    finally:
        bias.copy_(before)


def test_models_of_other_depth_and_width_merge_with_nan(dino, photos):
    tiny = clearclip.load("timm:test_vit.r160_in1k", random=True)
    merged = store.merge_models([collect(model, photos, **QUIET) for model in (dino, tiny)])
    assert merged.sizes["model"] == 2 and merged.sizes["layer"] == 12
    assert merged.entropy.sel(model=tiny.name, layer=slice(tiny.depth + 1, None)).isnull().all()
    assert merged.entropy.sel(model=tiny.name, layer=slice(None, tiny.depth)).notnull().all()
    alone = collect(tiny, photos, **QUIET)
    joint = merged.sel(model=[tiny.name], layer=alone.layer, channel=alone.channel)
    xr.testing.assert_equal(joint.entropy.reset_coords(drop=True), alone.entropy.reset_coords(drop=True))
    assert merged.channel_mean_sorted.dtype == np.float32


def test_wrong_requests(dino, photos):
    with pytest.raises(UserError, match=r"Closest: entropy"):
        collect(dino, photos, ["entropi"])
    with pytest.raises(UserError, match=r"layers 1 … 12"):
        collect(dino, photos, layers=[13])
    with pytest.raises(UserError, match=r"batch size 0"):
        collect(dino, photos, batch_size=0)
    with pytest.raises(UserError, match=r"32 or 48"):
        collect(dino, photos, image_size=40)


def test_statistics_of_bf16_stay_close(photos):
    fp32 = collect(clearclip.load("dino_vits16", random=True), photos, ["entropy"], **QUIET)
    bf16 = collect(clearclip.load("dino_vits16", random=True, precision="bf16"), photos, ["entropy"], **QUIET)
    assert bf16.precision.values.tolist() == ["bf16"]
    assert float(np.abs(fp32.entropy - bf16.entropy).sel(feature="X_attn").max()) < 1e-3
    assert st.FIGURE_4[0] == "entropy" and not same(fp32, bf16)


def test_several_models_are_kept_until_their_result_is_written(dino, photos, tmp_path):
    tiny, listed, output = clearclip.load("dino_tiny"), pictures(photos), tmp_path / "deep" / "entropy.nc"
    got = collect_models([lambda: dino, lambda: tiny], listed, ["entropy"], output, **QUIET)
    assert sorted(path.name for path in output.parent.iterdir()) == [
        f".entropy.nc.{model.name}.unfinished.nc" for model in (tiny, dino)
    ]
    assert same(got, store.merge_models([collect(model, listed, ["entropy"], **QUIET) for model in (dino, tiny)]))
    unfinished_files.write_result(got, output)
    assert [path.name for path in output.parent.iterdir()] == ["entropy.nc"]
    assert store.read(output).identical(got.assign_attrs(format="clearclip statistics 1"))
