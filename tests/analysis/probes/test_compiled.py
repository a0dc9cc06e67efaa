"""One compiled graph gives what a probe gives: in every family, for every statistic, for batches of any size."""

import shutil

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from commands import here

import clearclip
from analysis.probes import collector, store
from analysis.probes.collection import collect
from analysis.probes.compiled import TOLERANCE, CompiledPass
from analysis.probes.probe import Probe
from analysis.probes.statistics import FIGURE_4, STATISTICS
from analysis.scale import collection as of_shards
from clearclip.errors import UserError
from clearclip.interventions import Heads, intervene
from clearclip.models.block import FEATURES

COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
SIDES = {"dinov2_vits14": 42, "blip_vitb16": 384, "clip_vitb32": 224, "siglip2_vitb16": 224, "dino_vits16": 48,
         "dinov3_vits16": 48, "timm:vit_pe_core_tiny_patch16_384.fb": 48, "timm:eva02_tiny_patch14_224.mim_in22k": 42}  # fmt: skip


def few(x):
    """What is kept of a map in these tests: two of its tokens, and its sum."""
    return x[:, :2], x.sum((1, 2))


def images(side, count):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def same(ours, expected, tolerance=2e-5):
    assert list(ours) == list(expected)
    for site, values in expected.items():
        for a, b in zip(ours[site], values, strict=True):
            assert a.shape == b.shape and (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.fixture
def traced(monkeypatch):
    """Blocks are traced, and what is traced runs as it is: no compiler is needed, and none is waited for."""

    class Traced(CompiledPass):
        def __init__(self, *given):
            super().__init__(*given, backend="eager")

    monkeypatch.setattr(collector, "CompiledPass", Traced)


@torch.inference_mode()
@pytest.mark.parametrize("name", SIDES)
def test_a_block_is_traced_without_a_break_in_every_family(build, name):
    model = build(name)
    model.blocks = model.blocks[:3]  # a view on the first three
    pictures, layers = images(SIDES[name], 1), [3, 1]
    with Probe(model, layers, reduce=few) as probe:
        expected = probe.run(pictures)
    compiled = CompiledPass(model, layers, FEATURES, few, batch_size=1, backend="eager")
    same(compiled.run(pictures), expected)


@torch.inference_mode()
def test_smaller_batches_and_some_features(dino):
    compiled = CompiledPass(dino, [2, 5], ["X_sum", "X_attn"], few, batch_size=3, backend="eager")
    for count in (3, 1, 2):
        pictures = images(48, count)
        with Probe(dino, [2, 5], ["X_sum", "X_attn"], reduce=few) as probe:
            expected = probe.run(pictures)
        same(compiled.run(pictures), expected)


@torch.inference_mode()
def test_one_graph_serves_all_blocks(dino):
    torch._dynamo.utils.counters.clear()
    compiled = CompiledPass(dino, range(1, 13), FEATURES, few, batch_size=2, backend="eager")
    for count in (2, 1):
        compiled.run(images(32, count))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@torch.inference_mode()
def test_rotary_positions_that_differ_from_block_to_block():
    module = timm.create_model(
        "vit_small_patch16_rope_mixed_224", depth=3, dynamic_img_size=True, init_values=1.0
    ).eval()
    model, pictures = clearclip.wrap(module, preprocessing={"mean": (0.5,) * 3, "std": (0.5,) * 3}), images(224, 1)
    with Probe(model, reduce=few) as probe:
        expected = probe.run(pictures)
    same(CompiledPass(model, [1, 2, 3], FEATURES, few, batch_size=1, backend="eager").run(pictures), expected)


def test_interventions_and_hooks_are_refused():
    model = clearclip.load("dino_tiny", device="cpu")
    for changed in (intervene(model, Heads(2, (1,))), model):
        handle = model.blocks[0].attention.register_forward_hook(lambda module, args, output: output)
        with pytest.raises(UserError, match="Measure without compiling"):
            collect(changed, "scenes", limit=1, compiled=True, progress=False)
        handle.remove()


@pytest.mark.parametrize("features", [("X_foo",), (), ("X_sum", "X_sum")])
def test_features_are_checked_as_a_probe_checks_them(dino, features):
    with pytest.raises(UserError, match="features"):
        CompiledPass(dino, [1], features, few, batch_size=1)


def test_results_of_both_kinds_are_not_merged(traced):
    model = clearclip.load("dino_tiny", device="cpu")
    how = {"limit": 1, "image_size": 32, "progress": False}
    both = [collect(model, "scenes", ["maximum"], **how, compiled=compiled) for compiled in (True, False)]
    with pytest.raises(UserError, match="--compiled"):
        store.merge_models(both)


def test_the_command_says_at_once_what_does_not_go_together(tmp_path):
    words = ("--model", "dino_tiny", "--compiled", "--ablate", "layer=2,head=1")
    done = here("analysis.entropy", *words, cwd=tmp_path)
    assert done.returncode == 2 and "leave it out, or --ablate" in done.stderr
    assert here("analysis.featuremaps", "--compiled", cwd=tmp_path).returncode == 2


def test_what_cannot_be_traced_is_a_sentence(dino):
    def unforeseen(x):
        torch._dynamo.graph_break()
        return (x.sum((1, 2)),)

    with pytest.raises(UserError, match=r"dino_vits16 cannot be compiled here .* Measure without compiling"):
        CompiledPass(dino, [1], FEATURES, unforeseen, batch_size=1, backend="eager").run(images(32, 1))


def alike(ours, expected):
    """Every statistic within the tolerance of its largest value."""
    assert set(ours.data_vars) == set(expected.data_vars)
    for name, values in expected.data_vars.items():
        np.testing.assert_allclose(ours[name], values, rtol=0, atol=TOLERANCE * float(abs(values).max()))


def test_all_statistics_are_those_of_hooks(traced):
    model = clearclip.load("dino_tiny", device="cpu")
    how = {"statistics": list(STATISTICS), "limit": 3, "batch_size": 2, "image_size": 64, "progress": False}
    ours, expected = collect(model, "scenes", **how, compiled=True), collect(model, "scenes", **how)
    alike(ours, expected)
    assert ours.attrs["compiled"] == "one graph of torch.compile" and "compiled" not in expected.attrs


@pytest.mark.skipif(COMPILER is None, reason="a C++ compiler is missing, which torch.compile needs on a CPU")
def test_the_command_with_the_code_that_is_really_run(tmp_path):
    words = (
        "--model",
        "dino_tiny",
        "--images",
        "scenes",
        "--image-size",
        64,
        "--limit",
        5,
        "--batch-size",
        2,
        "--device",
        "cpu",
    )
    done = here("analysis.entropy", *words, "--compiled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with xr.open_dataset(tmp_path / "results/entropy.nc", engine="h5netcdf") as ours:
        assert ours.attrs["compiled"] == "one graph of torch.compile"
        how = {"limit": 5, "batch_size": 2, "image_size": 64, "progress": False}
        alike(ours, collect(clearclip.load("dino_tiny", device="cpu"), "scenes", FIGURE_4, **how))


def test_a_stream_is_compiled_once(traced, tmp_path):
    pytest.importorskip("pyarrow", reason="streams are an optional extra")
    from streams import STATISTICS as SOME
    from streams import Drawn

    model, how = (
        clearclip.load("clip_tiny", device="cpu"),
        {"image_size": 32, "batch_size": 2, "part": 4, "progress": False},
    )
    torch._dynamo.utils.counters.clear()
    ours = of_shards.collect_shards(model, Drawn(), tmp_path / "ours", SOME, **how, compiled=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    alike(ours, of_shards.collect_shards(model, Drawn(), tmp_path / "expected", SOME, **how))
    with pytest.raises(UserError, match="--restart"):  # bits of the two kinds are not mixed
        of_shards.collect_shards(model, Drawn(), tmp_path / "ours", SOME, **how)
