"""A live module gives what its weights give under their name, and is left as it was."""

import copy

import numpy as np
import open_clip
import pytest
import timm
import torch
import xarray as xr
from torch import nn

import clearclip
from analysis import Probe, attention_maps, collect
from analysis.probes.attention import token_attention
from analysis.probes.feature_maps import feature_maps
from analysis.probes.images import pictures
from analysis.probes.label_maps import label_maps
from analysis.prototypes.run import measure
from clearclip.errors import UserError
from clearclip.models.weights import fingerprint
from clearclip.models.wrap import as_backbone, wrap

QUIET = {"progress": False, "limit": 2}


def vit(**how):
    torch.manual_seed(0)
    return timm.create_model("test_vit", **how)


def images(size=160, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def maps(model, x):
    with torch.inference_mode(), Probe(model, keep=True) as probe:
        return probe.run(x)


def facts(module):
    """Everything about a module that a measurement could change."""
    return {
        "state": fingerprint(module),
        "modes": [part.training for part in module.modules()],
        "gradients": [(value.requires_grad, value.grad is None) for value in module.parameters()],
        "hooks": [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()],
        "attributes": [
            {key: value for key, value in vars(part).items() if isinstance(value, (bool, int, float, str, tuple))}
            for part in module.modules()
        ],
        "random numbers": torch.get_rng_state().tolist(),
    }


@pytest.fixture(scope="module")
def clip(tiny_clip):
    return clearclip.load(tiny_clip, random=True, device="cpu")


# the numbers are those of the same weights, loaded ----------------------------------------------------------------------


def test_features_are_those_of_the_same_weights_loaded_by_name(tiny):
    live = wrap(copy.deepcopy(tiny.model))
    assert live.preprocessing == tiny.preprocessing and live.precision == "fp32" and live.image_size == 160
    for size in (160, 96):
        ours, theirs = maps(live, images(size)), maps(tiny, images(size))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[site], theirs[site]) for site in theirs)


def test_a_dataset_is_that_of_the_same_weights_loaded_by_name(tiny, photos):
    live, loaded = collect(tiny.model, photos, **QUIET), collect(tiny, photos, **QUIET)
    xr.testing.assert_equal(live.drop_vars(about := [name for name, axis in live.coords.items() if axis.dims == ("model",)]),
                            loaded.drop_vars(about))  # fmt: skip
    assert live.model.item() == "test_vit" and live.weights.item() == "live module"
    assert live.weights_sha256.item() == loaded.weights_sha256.item() and not live.random_weights.item()


@pytest.mark.parametrize("name", ["openclip_vitb16", "siglip2_vitb16", "blip_vitb16"])
def test_clips_give_what_they_give_under_their_name(name, build):
    loaded = build(name)
    # open_clip keeps the preprocessing of trained weights in a model, and these are random
    live = wrap(loaded.model, preprocessing=loaded.preprocessing if "siglip" in name else None)
    x = images(loaded.image_size, 1)
    assert type(live) is type(loaded)
    assert torch.equal(live.last_tokens(x), loaded.last_tokens(x))
    picture = pictures(limit=1)[0].read()
    assert torch.equal(live.transform()(picture), loaded.transform()(picture))


def test_texts_of_a_live_clip(clip):
    live = wrap(clip.model)
    assert torch.equal(live.encode_texts(["a cat"]), clip.encode_texts(["a cat"]))
    module = copy.deepcopy(clip.model)
    module.vocab_size = 32000
    with pytest.raises(UserError, match=r"32000 tokens.*tokenizer="):
        wrap(module).encode_texts(["a cat"])
    assert torch.equal(wrap(module, tokenizer=clip.tokenizer).encode_texts(["a"]), clip.encode_texts(["a"]))


@pytest.mark.parametrize("size", [96, 192])
def test_a_transformer_for_one_image_size_is_measured_at_another(size):
    fixed, free = vit(dynamic_img_size=False), vit(dynamic_img_size=True)
    free.load_state_dict(fixed.state_dict())
    before = facts(fixed)
    ours, theirs = maps(fixed, images(size)), maps(free, images(size))
    assert all(torch.equal(ours[site], theirs[site]) for site in theirs)
    assert facts(fixed) == before
    with pytest.raises(AssertionError, match="match model"):
        fixed(images(size))


def test_rotary_positions_for_one_image_size_cannot_be_measured_at_another():
    module = timm.create_model("vit_small_patch16_rope_224", dynamic_img_size=False, depth=1)
    maps(module, images(224, 1))
    with pytest.raises(UserError, match="dynamic_img_size=True"):
        maps(module, images(96, 1))


# nothing about the module changes ---------------------------------------------------------------------------------------


def in_training():
    """A transformer in the middle of a training run: dropout everywhere, one part in eval mode, one part frozen."""
    module = vit(drop_rate=0.5, proj_drop_rate=0.5, attn_drop_rate=0.5, drop_path_rate=0.5, pos_drop_rate=0.5).train()
    module.blocks[1].eval()
    module.blocks[0].requires_grad_(False)
    module.blocks[2].register_forward_hook(lambda *_: None)
    module.set_grad_checkpointing()
    return module


def test_a_module_in_training_is_measured_without_dropout_and_left_in_training(photos):
    module = in_training()
    before = facts(module)
    ours = collect(module, photos, **QUIET)
    assert facts(module) == before
    plain = vit()
    plain.load_state_dict(module.state_dict())
    xr.testing.assert_equal(ours.entropy, collect(plain.eval(), photos, **QUIET).entropy)


def test_a_mistake_in_the_middle_of_a_pass_leaves_the_module_as_it_was():
    module = in_training()
    module.blocks[3].register_forward_pre_hook(lambda *_: 1 / 0)
    before = facts(module)
    with pytest.raises(ZeroDivisionError):
        maps(module, images())
    assert facts(module) == before


@pytest.mark.parametrize("kind", ["timm", "rope", "open_clip"])
def test_training_goes_on_as_if_nothing_had_been_measured(kind, clip):
    def module():
        torch.manual_seed(0)
        if kind == "rope":
            return timm.create_model("vit_small_patch16_dinov3", depth=2).train()
        return vit(proj_drop_rate=0.3).train() if kind == "timm" else copy.deepcopy(clip.model).requires_grad_().train()

    def steps(measured):
        model = module()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(2):
            if measured:
                collect(model, [torch.rand(3, 50, 50, generator=torch.Generator().manual_seed(0))], progress=False)
            tower = model.visual if kind == "open_clip" else model
            tower(images(32 if kind == "open_clip" else 224 if kind == "rope" else 160)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return fingerprint(model)

    assert steps(measured=True) == steps(measured=False)


def test_a_result_is_of_the_weights_as_they_are_at_its_time(clip, photos, tmp_path):
    module = copy.deepcopy(clip.model)
    live = wrap(module)
    segmenter = clearclip.Segmenter(live, "cat, dog", cache=tmp_path / "text", prompts="photo")
    first, tokens = collect(live, photos, image_size=48, **QUIET), segmenter.queries.embeddings
    with torch.no_grad():
        for value in module.parameters():
            value.data.mul_(1.5)  # as teachers are moved, unseen by autograd
    second = collect(live, photos, image_size=48, **QUIET)
    assert first.weights_sha256.item() != second.weights_sha256.item() == fingerprint(module)
    xr.testing.assert_equal(second.entropy, collect(copy.deepcopy(module), photos, image_size=48, **QUIET).entropy)
    again = clearclip.Segmenter(live, "cat, dog", cache=tmp_path / "text", prompts="photo").queries.embeddings
    assert not torch.equal(again, tokens) and not (tmp_path / "text").exists()


def test_measured_maps_carry_no_gradient():
    maps = attention_maps(vit(), images(), layers=[1])
    assert not maps[1, "qk"].requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_run_as_they_do_by_themselves(dtype):
    module = vit().eval().to(dtype)
    live = wrap(module)
    assert live.precision == {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    with torch.inference_mode():
        ours = live.final_norm(maps(live, images())[live.depth, "X_sum"] + 0)
        assert ours.dtype == dtype
        assert torch.equal(live.last_tokens(images()), module.forward_features(images().to(dtype)))
    with pytest.raises(UserError, match=r"module\.float\(\)"):
        wrap(module, precision="fp32")
    with pytest.raises(UserError, match="float64"):
        wrap(vit().double())


def test_autocast_over_live_weights(tiny):
    half = wrap(tiny.model, precision="bf16")
    loaded = clearclip.load("timm:test_vit", random=True, device="cpu", precision="bf16")
    assert torch.equal(half.last_tokens(images()), loaded.last_tokens(images()))


# what can be taken ------------------------------------------------------------------------------------------------------


def test_a_module_inside_a_wrapper_is_looked_into():
    module = vit().eval()
    inner = wrap(nn.DataParallel(torch.compile(module, backend="eager")))
    assert inner.model is module


@pytest.mark.parametrize(
    "module",
    [nn.Linear(2, 2), timm.create_model("test_resnet"), 5, None],
    ids=["torch", "timm", "number", "None"],
)
def test_what_is_no_model_is_told_what_is(module):
    for ask in (wrap, as_backbone, lambda module: collect(module, progress=False)):
        with pytest.raises(UserError, match=r"such as clip_vitb16.*timm.*open_clip.*transformers"):
            ask(module)


def test_the_visual_part_of_a_clip_alone_is_refused(clip):
    with pytest.raises(UserError, match="whole CLIP"):
        wrap(clip.model.visual)


def test_preprocessing_is_known_or_given(clip):
    module = timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)
    with pytest.raises(UserError, match=r"preprocessing=.*mean"):
        wrap(module)
    with pytest.raises(UserError, match="preprocessing"):
        wrap(
            open_clip.CLIP(
                24, {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}, {"layers": 1}
            )
        )
    given = wrap(module, name="mine", preprocessing={"mean": (0.5, 0.25, 0.125), "std": (0.5, 0.5, 0.5)})
    assert given.name == "mine" and given.architecture == "timm:VisionTransformer"
    picture = given.transform()(pictures(limit=1)[0].read())
    assert picture.shape == (3, 32, 32) and picture[0].min() >= -1 and picture[2].max() > 1
    assert wrap(vit(img_size=96, pretrained=False)).transform()(pictures(limit=1)[0].read()).shape == (3, 96, 96)


def test_load_points_to_wrap(tiny):
    with pytest.raises(UserError, match=r"clearclip\.wrap\(module\)"):
        clearclip.load(tiny.model)


def test_every_entry_takes_a_name_a_backbone_and_a_live_module(photos):
    scenes = clearclip.datasets.load("scenes", count=2)
    clip = clearclip.load("clip_tiny", device="cpu")
    few = pictures(photos, limit=2)

    def same(ask):
        first, *others = (ask(model) for model in (clip, "clip_tiny", clip.model))
        assert all(np.array_equal(first, other, equal_nan=True) for other in others)

    same(lambda model: collect(model, photos, **QUIET).entropy)
    same(lambda model: clearclip.evaluate(model, scenes, "clearclip", prompts="photo", **QUIET).confusion)
    same(lambda model: clearclip.DenseEncoder(model, ["clip"])(images(64))["clip"])
    same(lambda model: clearclip.Segmenter(model, "apple, grass", prompts="photo")(few[0].read()).scores)
    same(lambda model: attention_maps(model, images(64), [4])[4, "qk"])
    same(lambda model: feature_maps(model, few).feature_map)
    same(lambda model: label_maps(model, list(scenes), scenes.classes, prompts="photo").labels)
    same(lambda model: measure(model, scenes, **QUIET).iou)
    same(lambda model: maps(model, images(64))[6, "X_attn"])


def test_every_entry_takes_every_kind_of_picture(photos, tiny):
    named = pictures(photos, limit=2)
    held = [picture.read() for picture in named]
    for ask in (
        lambda source: feature_maps(tiny, source).feature_map,
        lambda source: token_attention(tiny, source).attention,
        lambda source: attention_maps(tiny, source, [6])[6, "qk"],
        lambda source: label_maps("clip_tiny", source, "apple, grass", ["clip"], prompts="photo").labels,
    ):
        assert np.array_equal(ask(named), ask(held))
    x = torch.stack([tiny.transform()(picture) for picture in held])
    assert torch.equal(attention_maps(tiny, x, [6])[6, "qk"], attention_maps(tiny, held, [6])[6, "qk"])
