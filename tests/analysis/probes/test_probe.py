"""The probe reads what the model computes, changes nothing, and leaves no trace."""

from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

import clearclip
from analysis.probes.probe import Probe, SiteSilentError
from clearclip.errors import UserError
from clearclip.models.block import FEATURES, Block

SIDES = {"dino_vits16": 32, "clip_vitb32": 64}
L, TOKENS = 12, 5  # 2 × 2 patches and CLS
ALL_SITES = [(layer, feature) for layer in range(1, L + 1) for feature in FEATURES]


@pytest.fixture(scope="module", params=SIDES)
def model(request):
    return clearclip.load(request.param, random=True, device="cpu")


@pytest.fixture(scope="module")
def dino():
    return clearclip.load("dino_vits16", random=True, device="cpu")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def pictures(model, count=2, seed=0, side=None):
    side = side or SIDES[model.name]
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def hooks(model):
    """Every hook of every module, by identity."""
    return [
        (name, kind, tuple(map(id, getattr(module, kind).values())))
        for name, module in model.model.named_modules()
        for kind in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_forward_hooks_with_kwargs",
            "_forward_pre_hooks_with_kwargs",
            "_forward_hooks_always_called",
            "_backward_hooks",
            "_backward_pre_hooks",
        )
    ]


class Calls:
    """A reducer that counts."""

    def __init__(self):
        self.count = 0

    def __call__(self, x):
        self.count += 1
        return x.mean().item()


class BreaksAt(Calls):
    """A reducer that fails at its n-th call."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def __call__(self, x):
        if self.count == self.n:
            raise ZeroDivisionError("reducer")
        return super().__call__(x)


# what is read --------------------------------------------------------------------------------------------------------


def test_maps_of_all_sites(model):
    with Probe(model, keep=True) as probe:
        maps = probe.run(pictures(model))
    assert list(maps) == ALL_SITES
    assert {tuple(x.shape) for x in maps.values()} == {(2, TOKENS, model.width)}
    for layer in range(1, L + 1):
        x_res, x_attn, x_sum = (maps[layer, feature] for feature in FEATURES)
        assert torch.equal(x_res + x_attn, x_sum)
        assert x_res.abs().sum() > 0 and x_attn.abs().sum() > 0
    assert all(not torch.equal(maps[a, "X_res"], maps[b, "X_res"]) for a, b in pairwise(range(1, L + 1)))


def test_maps_equal_those_of_the_block_called_by_hand(model):
    with Probe(model, layers=[3, 4], keep=True) as probe:
        maps = probe.run(pictures(model))
    block = model.blocks[2]
    x, y = maps[3, "X_res"], block.norm1(maps[3, "X_res"])
    x_attn = block.output(nn.functional.scaled_dot_product_attention(*block.qkv(y)), y)
    torch.testing.assert_close(maps[3, "X_attn"], x_attn, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(maps[3, "X_sum"], x + x_attn, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(maps[4, "X_res"], maps[3, "X_sum"] + block.ffn(maps[3, "X_sum"]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layers", [[1], [12], [2, 7], [7, 2]])
@pytest.mark.parametrize("features", [("X_attn",), ("X_res", "X_sum"), ("X_sum", "X_res")])
def test_a_subset_is_the_same_part_of_the_whole(model, layers, features):
    images = pictures(model)
    with Probe(model, keep=True) as probe:
        whole = probe.run(images)
    with Probe(model, layers, features, keep=True) as probe:
        part = probe.run(images)
    assert list(part) == [(layer, feature) for layer in layers for feature in features]
    assert all(torch.equal(part[site], whole[site]) for site in part)


def test_reduce_gets_the_maps_that_keep_keeps(model):
    images = pictures(model)
    with Probe(model, keep=True) as probe:
        kept = probe.run(images)
    with Probe(model, reduce=lambda x: x.double().sum((1, 2))) as probe:
        reduced = probe.run(images)
    assert all(torch.equal(reduced[site], kept[site].double().sum((1, 2))) for site in ALL_SITES)


def test_reduce_is_called_once_a_site_and_pass(dino):
    calls = Calls()
    with Probe(dino, layers=[1, 5], reduce=calls) as probe:
        for _ in range(3):
            probe.run(pictures(dino))
    assert calls.count == 3 * 2 * 3


def test_maps_need_no_gradient(dino):
    images = pictures(dino).requires_grad_()
    with torch.enable_grad(), Probe(dino, layers=[2], keep=True) as probe:
        maps = probe.run(images)
    assert not any(x.requires_grad for x in maps.values())


def test_one_result_by_its_site(dino):
    with Probe(dino, layers=[2], keep=True) as probe:
        maps = probe.run(pictures(dino))
    assert probe[2, "X_attn"] is maps[2, "X_attn"]
    with pytest.raises(KeyError, match="was not probed"):
        probe[3, "X_attn"]


@pytest.mark.parametrize("options", [{}, {"reduce": torch.mean, "keep": True}])
def test_a_map_is_reduced_or_kept(dino, options):
    with pytest.raises(UserError, match="reduce=function or keep=True"):
        Probe(dino, **options)


@pytest.mark.parametrize(
    "options", [{"layers": [0]}, {"layers": [13]}, {"layers": []}, {"features": ["X_out"]}, {"features": []}]
)
def test_what_does_not_exist_is_refused(dino, options):
    with pytest.raises(UserError, match=r"1 … 12|X_res, X_attn, X_sum"):
        Probe(dino, keep=True, **options)


# nothing is changed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [nullcontext, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_output_is_the_same_with_and_without(model, context):
    images = pictures(model)
    with context():
        before = model._run(images)
        with Probe(model, reduce=torch.mean):
            during = model._run(images)
        after = model._run(images)
    assert torch.equal(before, during) and torch.equal(before, after)


def test_no_hook_is_left(model):
    before = hooks(model)
    with Probe(model, reduce=torch.mean) as probe:
        assert hooks(model) != before
        probe.run(pictures(model))
    assert hooks(model) == before


def test_no_hook_is_left_after_an_exception(dino):
    before = hooks(dino)
    with pytest.raises(KeyboardInterrupt), Probe(dino, reduce=torch.mean):
        raise KeyboardInterrupt
    assert hooks(dino) == before


@pytest.mark.parametrize("at", [0, 1, 35])
def test_no_hook_is_left_after_a_failing_reducer(model, at):
    before = hooks(model)
    with pytest.raises(ZeroDivisionError, match="reducer"), Probe(model, reduce=BreaksAt(at)) as probe:
        probe.run(pictures(model))
    assert hooks(model) == before


@pytest.mark.parametrize("at", [0, 7])
def test_no_hook_is_left_when_attaching_fails(dino, monkeypatch, at):
    before, site, calls = hooks(dino), Block.site, []

    def fails(self, feature):
        calls.append(feature)
        if len(calls) > at:
            raise AttributeError("no such module")
        return site(self, feature)

    monkeypatch.setattr(Block, "site", fails)
    probe = Probe(dino, keep=True)
    with pytest.raises(AttributeError, match="no such module"):
        probe.__enter__()
    assert len(calls) == at + 1 and hooks(dino) == before
    monkeypatch.undo()
    with probe:
        probe.run(pictures(dino))


def test_hooks_of_others_stay(dino):
    seen = []
    handle = dino.blocks[0].module.register_forward_hook(lambda *_: seen.append(1))
    before = hooks(dino)
    with Probe(dino, reduce=torch.mean) as probe:
        probe.run(pictures(dino))
    assert hooks(dino) == before and seen == [1]
    handle.remove()


def test_two_probes_at_once(dino):
    images, before = pictures(dino), hooks(dino)
    with Probe(dino, keep=True) as outer:
        with Probe(dino, layers=[5], reduce=lambda x: x.sum()) as inner:
            dino(images)
            both = inner.results()
        assert all(torch.equal(both[site], outer[site].sum()) for site in both)
        assert hooks(dino) != before
        first = outer.results()
        second = outer.run(images)
        assert all(torch.equal(first[site], second[site]) for site in ALL_SITES)
    assert hooks(dino) == before


def test_a_probe_is_attached_once(dino):
    before = hooks(dino)
    with Probe(dino, reduce=torch.mean) as probe:
        with pytest.raises(RuntimeError, match="attached already"):
            probe.__enter__()
        probe.run(pictures(dino))
    assert hooks(dino) == before


def test_a_probe_can_be_attached_again(dino):
    probe, results = Probe(dino, reduce=torch.mean), []
    for _ in range(2):
        with probe:
            results.append(probe.run(pictures(dino)))
    assert results[0] == results[1]


# silent sites --------------------------------------------------------------------------------------------------------


def test_a_pass_that_never_ran_is_an_error(dino):
    before = hooks(dino)
    with pytest.raises(SiteSilentError, match=r"X_res of layer 1, .*36 of 36 sites"), Probe(dino, keep=True):
        pass
    assert hooks(dino) == before


def test_an_exception_is_not_hidden_by_the_silence_it_causes(dino):
    with pytest.raises(LookupError, match="mine"), Probe(dino, keep=True):
        raise LookupError("mine")


def test_a_block_that_is_passed_by_is_an_error(dino, monkeypatch):
    without_block_4 = nn.Sequential(*(block for i, block in enumerate(dino.vit.blocks) if i != 3))
    monkeypatch.setitem(dino.vit._modules, "blocks", without_block_4)
    with (
        pytest.raises(SiteSilentError, match=r"X_res of layer 4, X_attn of layer 4, X_sum of layer 4 .3 of 36"),
        Probe(dino, reduce=torch.mean) as probe,
    ):
        probe.run(pictures(dino))


def test_a_module_that_is_passed_by_is_an_error(dino, monkeypatch):
    block = dino.blocks[6].module
    monkeypatch.setattr(block, "forward", lambda x: x + block.attn(block.norm1(x)))  # no drop_path1, no FFN
    with (
        pytest.raises(SiteSilentError, match=r"X_attn of layer 7, X_sum of layer 7 .2 of 36"),
        Probe(dino, keep=True) as probe,
    ):
        probe.run(pictures(dino))


def test_the_sites_that_spoke_can_be_read_and_the_silent_ones_not(dino, monkeypatch):
    block = dino.blocks[6].module
    monkeypatch.setattr(block, "forward", lambda x: x)
    with pytest.raises(SiteSilentError), Probe(dino, layers=[6, 7], keep=True) as probe:
        dino(pictures(dino))
    assert probe[6, "X_sum"].shape == (2, TOKENS, 384)
    with pytest.raises(SiteSilentError, match="X_sum of layer 7"):
        probe[7, "X_sum"]


# stale values --------------------------------------------------------------------------------------------------------


def test_a_pass_replaces_what_the_one_before_gave(dino):
    with Probe(dino, keep=True) as probe:
        first, second = probe.run(pictures(dino, seed=1)), probe.run(pictures(dino, count=3, seed=2))
    with Probe(dino, keep=True) as probe:
        alone = probe.run(pictures(dino, count=3, seed=2))
    assert all(torch.equal(second[site], alone[site]) for site in ALL_SITES)
    assert all(first[site].shape[0] == 2 and second[site].shape[0] == 3 for site in ALL_SITES)


def test_cleared_values_are_gone(dino):
    with Probe(dino, keep=True) as probe:
        probe.run(pictures(dino))
        probe.clear()
        with pytest.raises(SiteSilentError, match="X_res of layer 1"):
            probe[1, "X_res"]
        with pytest.raises(SiteSilentError, match="36 of 36"):
            probe.results()


def test_a_failed_pass_leaves_no_values_of_the_one_before(dino):
    breaks = BreaksAt(36 + 10)
    with Probe(dino, reduce=breaks) as probe:
        probe.run(pictures(dino))
        with pytest.raises(ZeroDivisionError):
            probe.run(pictures(dino))
        with pytest.raises(SiteSilentError, match="26 of 36"):
            probe.results()
        breaks.n = None
        probe.run(pictures(dino))


def test_attaching_again_forgets_the_values_of_the_last_time(dino):
    probe = Probe(dino, reduce=torch.mean)
    with probe:
        probe.run(pictures(dino))
    with pytest.raises(SiteSilentError, match="36 of 36"), probe:
        pass


def test_a_pass_after_detaching_is_not_read(dino):
    calls = Calls()
    with Probe(dino, reduce=calls) as probe:
        before = probe.run(pictures(dino, seed=1))
    dino(pictures(dino, seed=2))
    assert calls.count == 36 and probe.results() == before


# how the model runs --------------------------------------------------------------------------------------------------


def test_inference_mode_gives_the_same(model):
    with Probe(model, keep=True) as probe:
        plain = probe.run(pictures(model))
        with torch.inference_mode():
            inference = probe.run(pictures(model))
    assert all(torch.equal(plain[site], inference[site]) for site in ALL_SITES)


def test_autocast_keeps_the_identity_to_the_bit(model):
    images = pictures(model)
    with Probe(model, keep=True) as probe:
        plain = probe.run(images)
        with torch.autocast("cpu", torch.bfloat16):
            maps = probe.run(images)
    assert maps[1, "X_attn"].dtype == torch.bfloat16
    for layer in range(1, L + 1):
        x_res, x_attn, x_sum = (maps[layer, feature] for feature in FEATURES)
        assert torch.equal(x_res + x_attn, x_sum)
        torch.testing.assert_close(x_sum.float(), plain[layer, "X_sum"], atol=0.1, rtol=0.1)


def test_precision_of_the_model_is_autocast(dino):
    half, images = replace(dino, precision="bf16"), pictures(dino)
    with Probe(half, keep=True) as probe:
        own = probe.run(images)
    with torch.autocast("cpu", torch.bfloat16), Probe(dino, keep=True) as probe:
        asked = probe.run(images)
    assert all(torch.equal(own[site], asked[site]) for site in ALL_SITES)


def run_compiled(model):
    """The tower as a compiled function; at its own image size, as open_clip's knows no other."""
    if model.name == "dino_vits16":
        return torch.compile(model.vit.forward_features, backend="eager")
    return torch.compile(model.vit, backend="eager")


def test_compiled_before_attaching(model):
    images, run, calls, hooked = pictures(model, 1, side=224), run_compiled(model), Calls(), hooks(model)
    with Probe(model, keep=True) as probe:
        expected = probe.run(images)
    plain = run(images)
    with Probe(model, keep=True) as probe:
        during = run(images)
        maps = probe.results()
    for site in ALL_SITES:  # compiled, torch takes another way through nn.MultiheadAttention
        torch.testing.assert_close(maps[site], expected[site], atol=1e-5, rtol=1e-5)
    with Probe(model, reduce=calls):
        run(images)
    assert calls.count == 36
    after = run(images)
    assert calls.count == 36 and hooks(model) == hooked
    torch.testing.assert_close(during, plain, atol=1e-5, rtol=1e-5)
    assert torch.equal(plain, after)


def test_compiled_while_attached(model):
    images, calls = pictures(model, 1, side=224), Calls()
    with Probe(model, reduce=lambda x: x.mean().item()) as probe:
        expected = probe.run(images)
    with Probe(model, reduce=calls) as probe:
        run = run_compiled(model)
        for count in (36, 72):
            run(images)
            assert probe.results() == pytest.approx(expected, abs=1e-6) and calls.count == count
            probe.clear()
        run(images)
    run(images)
    assert calls.count == 3 * 36


@pytest.mark.parametrize(("layers", "features"), [([2, 7], FEATURES), ([12], ["X_sum"]), ([1], ["X_attn"])])
def test_a_part_of_a_compiled_model(dino, layers, features):
    # torch.compile shares the code of equal blocks, so that a hook on one of them is easily lost
    dino = replace(dino, positions="timm")  # it is timm's own forward pass that is compiled
    images, run = pictures(dino), run_compiled(dino)
    with Probe(dino, layers, features, keep=True) as probe:
        expected = probe.run(images)
        probe.clear()
        run(images)
        assert all(torch.equal(x, expected[site]) for site, x in probe.results().items())


def test_another_probe_on_a_compiled_model(dino):
    images, run, first, second = pictures(dino), run_compiled(dino), Calls(), Calls()
    with Probe(dino, layers=[1, 2], reduce=first):
        run(images)
    with Probe(dino, layers=[2], features=["X_attn"], reduce=second):
        run(images)
    assert (first.count, second.count) == (6, 1)


def test_blocks_compiled_in_place(dino):
    images = pictures(dino)
    with Probe(dino, layers=[1, 2, 3], keep=True) as probe:
        expected = probe.run(images)
    for block in dino.blocks[:2]:
        block.module.compile(backend="aot_eager")
    try:
        dino(images)
        calls = Calls()
        with Probe(dino, layers=[1, 2, 3], keep=True) as probe, Probe(dino, layers=[1, 2, 3], reduce=calls):
            maps = probe.run(images)
        dino(images)
    finally:
        for block in dino.blocks[:2]:
            block.module._compiled_call_impl = None
    assert calls.count == 9
    for site, x in maps.items():
        torch.testing.assert_close(x, expected[site], atol=1e-5, rtol=1e-5)


# block inputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [None, [12], [1], [3, 7]])
def test_block_inputs_are_the_x_res_of_a_probe(model, layers):
    images = pictures(model)
    with Probe(model, layers, ["X_res"], keep=True) as probe:
        expected = probe.run(images)
    inputs = model.block_inputs(images, layers)
    assert [(layer, "X_res") for layer in inputs] == list(expected)
    assert all(torch.equal(entry.x, expected[layer, "X_res"]) for layer, entry in inputs.items())


@pytest.mark.parametrize(("layers", "runs"), [([12], 11), ([1], 0), ([7, 3], 6)])
def test_block_inputs_end_the_pass_before_the_last_wanted_block(dino, layers, runs):
    ran, before = [], hooks(dino)
    handles = [block.module.norm1.register_forward_hook(lambda *_: ran.append(1)) for block in dino.blocks]
    dino.block_inputs(pictures(dino), layers)
    for handle in handles:
        handle.remove()
    assert len(ran) == runs and hooks(dino) == before


def test_block_inputs_end_the_pass_inside_a_probe_without_harm(dino):
    with (
        pytest.raises(SiteSilentError, match=r"X_attn of layer 7.* \(\d+ of 36 sites\)"),
        Probe(dino, keep=True) as probe,
    ):
        dino.block_inputs(pictures(dino), [7])
    assert torch.equal(probe[6, "X_res"] + probe[6, "X_attn"], probe[6, "X_sum"])
