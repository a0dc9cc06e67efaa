"""Interventions against copies of models that are edited by hand, in every family."""

import copy

import pytest
import timm
import torch
from open_clip.model import CLIP

import clearclip
from analysis.probes.probe import Probe
from clearclip.errors import UserError
from clearclip.interventions import Channels, Clamp, Heads, Neurons, Registers, find_register_neurons, intervene
from clearclip.interventions.text import parse, read_change
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import RECIPES, recipe
from clearclip.methods.stages import Intervene
from tests.small_models import close, config, noisy, pictures, visual_of

LAYER = 2


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return noisy(
        clearclip.wrap(
            CLIP(**config(3)).eval().requires_grad_(False),
            "clip",
            preprocessing={"mean": (0.5,) * 3, "std": (0.5,) * 3},
        )
    )


def of_timm(name, **options):
    torch.manual_seed(0)
    module = timm.create_model(name, dynamic_img_size=True, **options).eval().requires_grad_(False)
    return noisy(clearclip.wrap(module, name, preprocessing={"mean": (0.5,) * 3, "std": (0.5,) * 3}))


@pytest.fixture(scope="module", params=["clip", "plain", "layer scale", "rotary"])
def family(request, clip):
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}
    if request.param == "clip":
        return clip
    if request.param == "plain":
        return of_timm("vit_tiny_patch16_224", **small)
    if request.param == "layer scale":
        return of_timm("vit_small_patch14_reg4_dinov2", **small)
    return of_timm("vit_small_patch16_dinov3", **small)


def edited(model, edit):
    """The model with weights of a copy of it changed by hand."""
    module = copy.deepcopy(model.model)
    other = clearclip.wrap(module, "edited", preprocessing=dict(model.preprocessing))
    with torch.no_grad():
        edit(other.blocks[LAYER - 1])
    return other


def maps(model, size=(32, 32)):
    with torch.inference_mode(), Probe(model, keep=True) as probe:
        return probe.run(pictures(size))


def same(a, b, tolerance=1e-5):
    first, second = maps(a), maps(b)
    assert first.keys() == second.keys()
    return all(close(first[site], second[site], tolerance) for site in first)


def test_heads_at_zero_are_columns_of_the_projection_at_zero(family):
    width = family.blocks[0].attention_writer.module.in_features // family.heads

    def edit(block):
        block.attention_writer.module.weight[:, :width] = 0

    changed = intervene(family, Heads(LAYER, (1,)))
    assert same(changed, edited(family, edit)) and not same(changed, family)


def test_neurons_at_zero_are_columns_of_the_second_linear_at_zero(family):
    def edit(block):
        block.ffn_writer.module.weight[:, [3, 7]] = 0

    changed = intervene(family, Neurons(LAYER, (3, 7)))
    assert same(changed, edited(family, edit)) and not same(changed, family)


@pytest.mark.parametrize("site", ["X_res", "X_attn", "X_sum"])
@pytest.mark.parametrize("to", ["zero", "mean"])
def test_channels_are_replaced_where_they_are_named(family, site, to):
    before, after = maps(family), maps(intervene(family, Channels(LAYER, (0, 5), site, to)))
    expected = before[LAYER, site].clone()
    for channel in (0, 5):
        for i in range(len(expected)):
            expected[i, :, channel] = 0 if to == "zero" else before[LAYER, site][i, :, channel].mean()
    assert close(after[LAYER, site], expected, 1e-6)
    assert torch.equal(after[LAYER, "X_res"] + after[LAYER, "X_attn"], after[LAYER, "X_sum"])
    assert torch.equal(after[1, "X_sum"], before[1, "X_sum"]) and not torch.equal(after[3, "X_res"], before[3, "X_res"])


def test_a_clamped_token_has_the_length_that_is_allowed_and_its_direction(family):
    before, after = maps(family)[LAYER, "X_res"], maps(intervene(family, Clamp(LAYER, 1.1)))[LAYER, "X_res"]
    for x, y in zip(before, after, strict=True):
        limit = 1.1 * x[family.prefix_tokens :].norm(dim=1).median()
        for old, new in zip(x, y, strict=True):
            assert close(new, old * min(1, limit / old.norm()), 1e-5)


def test_nothing_is_left_behind(family):
    before = maps(family)
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in family.model.modules()]
    changed = intervene(family, [Heads(1, (1,)), Channels(2, (1,)), Neurons(3, (2,)), Registers(2, ((1, 0),))])
    maps(changed)
    with pytest.raises(UserError):
        changed(torch.zeros(1, 3, 33, 32))
    after = maps(family)
    assert all(torch.equal(before[site], after[site]) for site in before)
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in family.model.modules()]


def test_registers_by_the_formula(clip):
    """A plain loop over one picture at a time in float64, from the paper's words."""
    neurons, count = ((1, 3), (2, 5), (2, 9)), 2
    changed = intervene(clip, Registers(count, neurons))
    assert changed.prefix_tokens == 1 + count
    seen, visual = maps(changed), visual_of(clip)
    for i, image in enumerate(pictures((32, 32)).double()):
        patches = visual.conv1(image[None])[0].flatten(1).T
        x = visual.ln_pre(torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding)
        x = torch.cat([x[:1], torch.zeros(count, x.shape[1]), x[1:]])
        for layer, block in enumerate(visual.transformer.resblocks, 1):
            assert close(seen[layer, "X_res"][i].double(), x, 1e-4)
            y = block.ln_1(x)[None]
            x = x + block.attn(y, y, y, need_weights=False)[0][0]
            hidden = block.mlp[1](block.mlp[0](block.ln_2(x)))
            for there, neuron in neurons:
                if there == layer:
                    highest = max(hidden[:, neuron].tolist())
                    for token in range(1, len(x)):
                        hidden[token, neuron] = highest if token < 1 + count else 0
            x = x + block.mlp[2](hidden)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_registers_go_with_any_model_batch_and_size(family, size):
    changed = intervene(family, Registers(3, ((2, 1),)))
    seen = maps(changed, size)
    patches = size[0] * size[1] // 64
    assert seen[3, "X_sum"].shape[1] == family.prefix_tokens + 3 + patches
    alone = intervene(family, Registers(3, ((2, 1),)))
    with torch.inference_mode(), Probe(alone, keep=True) as probe:
        one = probe.run(pictures(size)[1:])
    assert close(one[3, "X_sum"][0], seen[3, "X_sum"][1], 1e-5)


def test_register_neurons_are_the_strongest_at_outliers(clip):
    images = list(pictures((32, 32), 3))
    found = find_register_neurons(clip, images, count=4, times=1.02, layer=2)
    scores = {}
    for image in images:
        with torch.inference_mode():
            inputs = clip.block_inputs(image[None], [1, 2, 3])
            lengths = inputs[3].x[0, 1:].norm(dim=1)
            outliers = [j for j in range(len(lengths)) if lengths[j] > 1.02 * lengths.median()]
            for layer in (1, 2):
                block = clip.blocks[layer - 1].module
                x_sum = inputs[layer].x + clip.blocks[layer - 1].output(
                    _values(clip.blocks[layer - 1], inputs[layer].x), None
                )
                hidden = block.mlp[1](block.mlp[0](block.ln_2(x_sum)))[0, 1:]
                for neuron in range(hidden.shape[1]):
                    value = sum(abs(hidden[j, neuron].item()) for j in outliers) / len(outliers)
                    scores[layer, neuron] = scores.get((layer, neuron), 0) + value
    assert list(found) == sorted(scores, key=lambda at: -scores[at])[:4]
    with pytest.raises(UserError, match="no patch after layer 2 is 100 times"):
        find_register_neurons(clip, images, times=100, layer=2)


def _values(block, x):
    q, k, v = block.qkv(block.norm1(x))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("name", ["clip", "clearclip", "gem", "maskclip", "itaclip"])
@pytest.mark.parametrize("layer", [1, 3])
def test_a_recipe_with_a_stage_is_the_recipe_on_the_edited_model(clip, name, layer):
    """Also where the last block's heads are what is switched off, and beside the recipe without the stage."""
    own = RECIPES[name].variant(stream=3) if name == "gem" else RECIPES[name]
    staged = own.variant(stages=(*own.stages, Intervene(Heads(layer, (2,)))), name="without")
    module = copy.deepcopy(clip.model)
    module.visual.transformer.resblocks[layer - 1].attn.out_proj.weight[:, 16:32] = 0
    other = clearclip.wrap(module, "edited", preprocessing=dict(clip.preprocessing))
    images = pictures((32, 32))
    both = DenseEncoder(clip, [own, staged])(images)
    assert close(both["without"], DenseEncoder(other, [own])(images)[own.name], 1e-4)
    assert torch.equal(both[own.name], DenseEncoder(clip, [own])(images)[own.name])
    through_view = DenseEncoder(intervene(clip, Heads(layer, (2,))), [own])(images)[own.name]
    assert close(both["without"], through_view, 1e-6)


def test_x_sum_of_the_last_block_is_changed_in_recipes_too(clip):
    changed = intervene(clip, Channels(3, (4,), "X_sum"))
    images = pictures((32, 32))
    last = changed.last_tokens(images)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(clip.project(last), dim=-1)[:, 1:]
    assert close(DenseEncoder(changed, ["clip"])(images)["clip"], expected, 1e-5)


def test_a_stage_is_written_down_and_read_back():
    text = "clearclip stages='Intervene(change=Registers(count=1, neurons=((9, 4), (10, 7))))'"
    known = recipe(text)
    assert known.stages == (Intervene(Registers(1, ((9, 4), (10, 7)))),)
    assert read_change("Heads(layer=2, heads=(1,))") == Heads(2, (1,))
    assert not known.same(RECIPES["clearclip"])


@pytest.mark.parametrize(
    "text",
    ["", "layer=1", "channel=3", "layer=a,head=1", "layer=1,head=", "layer=1,head=1,neuron=2", "layer=1,head=1,site=X_res",
     "layer=1,clamp=x", "layer=1,clamp=3,to=mean", "layer=1,layer=2,head=1", "layer=1,head=1,to=one", "layer=1,clamp=nan"],
)  # fmt: skip
def test_texts_that_say_no_intervention_are_refused(text):
    with pytest.raises(UserError):
        parse(text)


@pytest.mark.parametrize(
    "change",
    [
        Heads(4, (0,)),
        Heads(1, (9,)),
        Heads(1, (0, 0)),
        Channels(1, (64,)),
        Neurons(1, (-1,)),
        Registers(1, ((1, 999),)),
    ],
)
def test_what_the_model_does_not_have_is_refused(clip, change):
    with pytest.raises(UserError):
        intervene(clip, change)
    with pytest.raises(UserError):
        DenseEncoder(clip, [RECIPES["clip"].variant(stages=(Intervene(change),))])
