import hashlib
import json
import math
import os
import random
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import open_clip
import pytest
import timm
import torch
import torchvision.transforms as T
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from analysis.probes.probe import Probe
from clearclip import load
from clearclip.errors import UserError
from clearclip.models import position
from clearclip.models.checkpoint import fingerprint, read_state_dict
from clearclip.models.load import resolve
from clearclip.models.names import ALIASES, SHIPPED

TINY = "timm:test_vit"  # a vision transformer of 0.4 M parameters that timm has for tests


@dataclass(frozen=True)
class Expected:
    block: str
    depth: int
    width: int
    heads: int
    prefix: int
    patch: int
    size: int
    projection: int = 0  # channels of the text space, 0 for no projection
    scaled: bool = False  # whether it has LayerScale


FAMILIES = {
    "dino_vits16": Expected("Block", 12, 384, 6, 1, 16, 224),
    "dinov2_vits14": Expected("Block", 12, 384, 6, 1, 14, 518, scaled=True),
    "dinov2_vits14_reg": Expected("Block", 12, 384, 6, 5, 14, 518, scaled=True),
    "dinov3_vits16": Expected("EvaBlock", 12, 384, 6, 5, 16, 256, scaled=True),
    "mae_vitb16": Expected("Block", 12, 768, 12, 1, 16, 224),
    "timm:vit_pe_core_tiny_patch16_384.fb": Expected("EvaBlock", 12, 192, 3, 1, 16, 384),
    "timm:eva02_tiny_patch14_224.mim_in22k": Expected(
        "EvaBlock", 12, 192, 3, 1, 14, 224
    ),  # q and v have a bias, k none
    "clip_vitb32": Expected("ResidualAttentionBlock", 12, 768, 12, 1, 32, 224, 512),
    "siglip2_vitb16": Expected("Block", 12, 768, 12, 0, 16, 224, 768),
    "eva02_clip_vitb16": Expected("EvaBlock", 12, 768, 12, 1, 16, 224, 512),
    "blip_vitb16": Expected("BlipEncoderLayer", 12, 768, 12, 1, 16, 384, 256),
}


def build(name):
    """The family's own image tower at random; open_clip's text towers are cut down, they are not looked at here."""
    if name.startswith("blip"):
        pytest.importorskip("transformers", reason="BLIP is an optional extra")
    architecture = resolve(name)
    with pytest.MonkeyPatch.context() as patch:
        if architecture.startswith("open_clip:"):
            arch = architecture.removeprefix("open_clip:").partition("/")[0]
            config = open_clip.get_model_config(arch)
            text = config["text_cfg"] | {"layers": 1, "vocab_size": 64}
            patch.setitem(open_clip.factory._MODEL_CONFIGS, arch, config | {"text_cfg": text})
        return load(name, random=True, device="cpu")


@dataclass
class Case:
    name: str
    expected: Expected
    backbone: object
    small: tuple  # height and width of 3 × 5 patches

    def images(self, size, batch=1):
        return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))

    def maps(self, size, batch=1):
        with torch.inference_mode(), Probe(self.backbone, keep=True) as probe:
            return probe.run(self.images(size, batch))

    @cached_property
    def native(self):
        return self.maps((self.expected.size,) * 2)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request):
    expected = FAMILIES[request.param]
    backbone = build(request.param)
    generator = torch.Generator().manual_seed(2)
    for parameter in backbone.model.parameters():  # biases of 0 and LayerScales of 1e-5 would hide a forgotten one
        if parameter.ndim == 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return Case(request.param, expected, backbone, (3 * expected.patch, 5 * expected.patch))


def close(a, b):
    """Equal to float32 rounding, relative to the largest entry."""
    return a.shape == b.shape and (a - b).abs().max() <= 2e-5 * b.abs().max()


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# every family --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False], ids=["native", "3x5"])
def test_residual_plus_attention_is_the_sum_bit_by_bit(case, native):
    size = (case.expected.size,) * 2 if native else case.small
    batch = 1 if native else 2
    before = hooks(case.backbone.model)
    maps = case.native if native else case.maps(size, batch)
    rows, columns = size[0] // case.expected.patch, size[1] // case.expected.patch
    assert len(maps) == 3 * case.expected.depth
    for layer in range(1, case.expected.depth + 1):
        x_res, x_attn, x_sum = (maps[layer, feature] for feature in ("X_res", "X_attn", "X_sum"))
        assert x_res.shape == (batch, case.expected.prefix + rows * columns, case.expected.width)
        assert torch.equal(x_res + x_attn, x_sum)
        assert x_attn.abs().amax() > 1e-2 and not torch.equal(x_res, x_sum)
    assert hooks(case.backbone.model) == before


def test_layer_scale_is_part_of_x_attn(case):
    block = case.backbone.blocks[3]
    inside = []
    handle = block.attention.register_forward_hook(lambda module, args, output: inside.append(output))
    try:
        maps = case.maps(case.small)
    finally:
        handle.remove()
    attention = inside[0][0] if isinstance(inside[0], tuple) else inside[0]
    assert torch.equal(attention, maps[4, "X_attn"]) is not case.expected.scaled


def test_q_k_v_and_output_give_x_attn(case):
    images = case.images(case.small, 2)
    maps = case.maps(case.small, 2)
    with torch.inference_mode():
        inputs = case.backbone.block_inputs(images)
        for layer, block in enumerate(case.backbone.blocks, 1):
            assert torch.equal(inputs[layer].x, maps[layer, "X_res"])
            y = block.norm1(inputs[layer].x)
            q, k, v = block.qkv(y, inputs[layer].rope)
            assert q.shape == (2, block.heads, y.shape[1], case.expected.width // case.expected.heads)
            attention = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
            assert close(block.output(attention @ v, y), maps[layer, "X_attn"])


def test_ffn_gives_the_next_block_its_input(case):
    maps = case.maps(case.small, 2)
    with torch.inference_mode():
        for layer, block in enumerate(case.backbone.blocks[:-1], 1):
            x_sum = maps[layer, "X_sum"]
            assert close(x_sum + block.ffn(x_sum), maps[layer + 1, "X_res"])


def test_block_inputs_of_some_layers(case):
    images = case.images(case.small)
    with torch.inference_mode():
        some = case.backbone.block_inputs(images, [2, 5])
        every = case.backbone.block_inputs(images)
    assert set(some) == {2, 5} and set(every) == set(range(1, 13))
    assert all(torch.equal(some[layer].x, every[layer].x) for layer in some)
    assert (some[2].rope is not None) == (case.expected.block == "EvaBlock")
    assert hooks(case.backbone.model) == 0


def test_the_view_says_what_the_model_is(case):
    backbone, expected = case.backbone, case.expected
    assert type(backbone.blocks[0].module).__name__ == expected.block
    assert (backbone.depth, backbone.width, backbone.heads) == (expected.depth, expected.width, expected.heads)
    assert (backbone.prefix_tokens, backbone.patch_size, backbone.image_size) == (
        expected.prefix,
        expected.patch,
        expected.size,
    )
    assert backbone.grid() == (expected.size // expected.patch,) * 2
    assert backbone.grid(case.small) == (3, 5)
    assert backbone.has_projection == (expected.projection > 0)
    assert backbone.name == case.name and backbone.architecture == resolve(case.name)
    assert backbone.weights.random and len(backbone.weights.sha256) == 64
    assert backbone.device.type == "cpu" and not backbone.model.training
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_another_size_leaves_the_model_as_it_was(case):
    images, before = case.images((case.expected.size,) * 2), fingerprint(case.backbone.vit)
    case.maps(case.small)
    assert fingerprint(case.backbone.vit) == before
    with torch.inference_mode():
        again = case.backbone.block_inputs(images, [2])[2].x
    assert torch.equal(again, case.native[2, "X_res"])


@torch.inference_mode()
def test_final_norm_and_projection_end_where_the_library_ends(case):
    size = (case.expected.size,) * 2
    images, backbone = case.images(size), case.backbone
    x_sum = case.native[12, "X_sum"]
    last = x_sum + backbone.blocks[-1].ffn(x_sum)
    if not case.expected.projection:
        assert close(backbone.final_norm(last), backbone.vit.forward_features(images))
        with pytest.raises(UserError, match="no projection"):
            backbone.project(last)
        return
    projected = backbone.project(backbone.final_norm(last))
    assert projected.shape == (*last.shape[:2], case.expected.projection)
    if case.name.startswith("blip"):
        seen = []
        handle = backbone.model.vision_proj.register_forward_hook(lambda module, args, output: seen.append(output))
        backbone.model(input_ids=torch.tensor([[101, 7, 102]]), pixel_values=images, use_itm_head=False)
        handle.remove()
        theirs = seen[0]
    elif case.name.startswith("siglip2"):  # no CLS: a patch counts as if the attention pooling saw nothing else
        alone = backbone.vit.norm(last)[:, :1]
        theirs = backbone.model.visual.head(backbone.vit.forward_head(alone))
    else:
        theirs = backbone.model.encode_image(images)
    assert close(projected[:, 0], theirs)


def picture(width, height):
    noise = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def by_hand(resize, size, mean, std):
    """The published preprocessing, put together from torchvision."""
    bicubic = T.InterpolationMode.BICUBIC
    target = (size, size) if resize == "squash" else size
    return T.Compose([T.Resize(target, bicubic), T.CenterCrop(size), T.ToTensor(), T.Normalize(mean, std)])


def test_the_transform_is_the_weights_own(case):
    image = picture(400, 300)
    if case.name.startswith("blip"):
        import transformers

        processor = transformers.BlipImageProcessor()
        theirs = by_hand("squash", 384, processor.image_mean, processor.image_std)
    elif case.name == "siglip2_vitb16":
        theirs = by_hand("squash", 224, (0.5,) * 3, (0.5,) * 3)
    elif resolve(case.name).startswith("open_clip:"):
        theirs = by_hand("shortest", 224, *OPENAI)
    else:
        theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(case.backbone.model))
    ours = case.backbone.transform()(image)
    assert ours.shape == (3, case.expected.size, case.expected.size) and ours.dtype == torch.float32
    assert torch.allclose(ours, theirs(image), atol=1e-6)


def test_the_transform_at_another_size_sees_the_whole_short_side(case):
    size = 3 * case.expected.patch
    striped = np.zeros((300, 400, 3), np.uint8)
    striped[:30] = 255  # a tenth at the upper edge, which a crop would lose
    values = case.backbone.transform(size)(Image.fromarray(striped))
    assert values.shape == (3, size, size)
    bright = (values[0] > (values[0].max() + values[0].min()) / 2).float()
    assert bright[:, size // 2].mean() == pytest.approx(0.1, abs=1.5 / size)


def test_layers_out_of_range(case):
    for layers in ([0], [13], [-1], [1, 99]):
        with pytest.raises(UserError, match=r"1 … 12"):
            case.backbone.layers(layers)
        with pytest.raises(UserError, match=r"1 … 12"):
            case.backbone.block_inputs(case.images(case.small), layers)
    with pytest.raises(UserError):
        case.backbone.layers([])
    assert case.backbone.layers() == tuple(range(1, 13)) and case.backbone.layers([12, 3]) == (12, 3)


def test_sizes_that_are_no_multiple_of_the_patch(case):
    p = case.expected.patch
    for size in [(3 * p + 1, 5 * p), (3 * p, 5 * p - 1), (p - 1, p)]:
        with pytest.raises(UserError, match=f"{p}-pixel patches"):
            case.backbone(case.images(size))


# grids and positions -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    return load(TINY, random=True, device="cpu")


@settings(database=None)
@given(rows=st.integers(1, 80), columns=st.integers(1, 80))
def test_grid_of_multiples(tiny, rows, columns):
    assert tiny.grid((rows * 16, columns * 16)) == (rows, columns)
    assert tiny.grid(rows * 16) == (rows, rows)


@settings(database=None)
@given(height=st.integers(-5, 600), width=st.integers(-5, 600))
def test_grid_names_the_nearest_sizes(tiny, height, width):
    wrong = [side for side in (height, width) if side < 16 or side % 16]
    if not wrong:
        assert tiny.grid((height, width)) == (height // 16, width // 16)
        return
    lower = max(wrong[0] // 16 * 16, 16)
    with pytest.raises(UserError, match=rf"{wrong[0]} is not a multiple of 16: take {lower} or {lower + 16}\."):
        tiny.grid((height, width))


def keys(side, target):
    """Bicubic resampling (Keys 1981, a = −3/4) of a row by the factor (target + 0.1) / side, as a matrix."""

    def cubic(t):
        t = abs(t)
        if t <= 1:
            return 1.25 * t**3 - 2.25 * t**2 + 1
        return -0.75 * t**3 + 3.75 * t**2 - 6 * t + 3 if t < 2 else 0.0

    matrix = np.zeros((target, side))
    for row in range(target):
        place = (row + 0.5) * side / (target + 0.1) - 0.5
        for column in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[row, min(max(column, 0), side - 1)] += cubic(place - column)
    return matrix


def resized(patches, side, grid):
    image = np.asarray(patches, dtype=np.float64).reshape(side, side, -1)
    return np.einsum("ri,cj,ijd->rcd", keys(side, grid[0]), keys(side, grid[1]), image).reshape(grid[0] * grid[1], -1)


@settings(deadline=None, database=None)
@given(side=st.integers(2, 24), rows=st.integers(1, 50), columns=st.integers(1, 50), prefix=st.integers(0, 5))
def test_position_interpolation_against_the_formula(side, rows, columns, prefix):
    embedding = torch.randn(prefix + side * side, 3, generator=torch.Generator().manual_seed(side))
    result = position.interpolate(embedding, (rows, columns), prefix)
    assert torch.equal(result[:prefix], embedding[:prefix])
    if (rows, columns) == (side, side):
        assert torch.equal(result, embedding)
    else:
        expected = resized(embedding[prefix:], side, (rows, columns))
        assert np.abs(result[prefix:].numpy() - expected).max() < 1e-3


def test_position_interpolation_of_an_equal_number_of_patches():
    embedding = torch.randn(1 + 36, 2, generator=torch.Generator().manual_seed(0))
    result = position.interpolate(embedding, (4, 9))
    assert result.shape == embedding.shape and not torch.allclose(result[1:], embedding[1:])


def test_position_interpolation_keeps_the_type_and_refuses_what_is_no_square():
    assert position.interpolate(torch.ones(1 + 16, 2, dtype=torch.float16), (6, 3)).dtype == torch.float16
    with pytest.raises(ValueError, match="12 patch positions"):
        position.interpolate(torch.ones(1 + 12, 2), (4, 4))


@pytest.mark.parametrize("name", ["clip_vitb32", "blip_vitb16"])
@torch.inference_mode()
def test_the_resized_embedding_reaches_the_first_block(name):
    backbone = build(name)
    patch, vit = backbone.patch_size, backbone.vit
    images = torch.randn(1, 3, 2 * patch, 7 * patch, generator=torch.Generator().manual_seed(0))
    x = backbone.block_inputs(images, [1])[1].x
    if name.startswith("clip"):
        patches, embedding = vit.conv1(images), vit.positional_embedding
        cls = vit.class_embedding
    else:
        patches, embedding = vit.embeddings.patch_embedding(images), vit.embeddings.position_embedding[0]
        cls = vit.embeddings.class_embedding[0, 0]
    at_grid = torch.from_numpy(resized(embedding[1:], backbone.grid()[0], (2, 7))).float()
    stream = torch.cat([(cls + embedding[0])[None], patches[0].flatten(1).T + at_grid])[None]
    assert torch.allclose(x, vit.ln_pre(stream) if name.startswith("clip") else stream, atol=1e-4)


# names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("dino_vitb61", "dino_vitb16"),
        ("dinov2_vitb14_regs", "dinov2_vitb14_reg"),
        ("clip-vit-b16", "clip_vitb16"),
        ("timm:vit_small_patch16_225.dino", "vit_small_patch16_224"),
        ("open_clip:ViT-B-16-quickglu", "ViT-B-16-quickgelu"),
        ("open_clip:ViT-B-16/opnai", "openai"),
        ("transformers:Salesforce/blip", "blip-itm-base-coco"),
        ("huggingface:dino", "timm, open_clip"),
        ("timm:", "timm, open_clip"),
        ("", "Closest"),
        ("timm:vit_small_patch16_224.dinosaur", "dino"),
    ],
)
def test_an_unknown_name_is_answered_with_known_ones(name, answer):
    for random_weights in (True, False):
        with pytest.raises(UserError) as caught:
            load(name, random=random_weights)
        assert answer in str(caught.value)


def test_every_short_name_is_known_to_its_library():
    tags = timm.list_pretrained()
    pairs = {tuple(pair) for pair in open_clip.list_pretrained()}
    for short, architecture in ALIASES.items():
        library, _, name = architecture.partition(":")
        if short in SHIPPED:
            assert architecture == f"zoo:{short}"
            continue
        assert {
            "timm": name in tags,
            "open_clip": tuple(name.split("/")) in pairs,
            "transformers": name.startswith("Salesforce/blip-itm-"),
        }[library], architecture


@pytest.mark.parametrize("name", ["timm:resnet18.a1_in1k", "open_clip:RN50/openai"])
def test_what_is_no_vision_transformer_is_refused(name):
    with pytest.raises(UserError):
        load(name, random=True)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32-quickgelu/openai"),
        ("open_clip:ViT-B-16/metaclip_fullcc", "open_clip:ViT-B-16-quickgelu/metaclip_fullcc"),
        ("timm:vit_base_patch16_clip_224.openai", "timm:vit_base_patch16_clip_quickgelu_224.openai"),
        ("open_clip:ViT-B-32-quickgelu/laion2b_s34b_b79k", "weights"),
        ("timm:vit_base_patch16_clip_quickgelu_224.laion2b", "laion2b"),
    ],
)
def test_weights_are_not_put_under_the_other_gelu(name, instead):
    with pytest.raises(UserError) as caught:
        load(name)
    assert instead in str(caught.value)


@pytest.mark.parametrize("name", ["open_clip:ViT-B-32/openai", "timm:vit_base_patch16_clip_224.openai"])
def test_a_local_file_does_not_get_round_the_gelu(tmp_path, name):
    save_file({"logit_scale": torch.zeros(())}, tmp_path / "openai.safetensors")
    with pytest.raises(UserError, match=r"(?i)quickgelu"):
        load(name, checkpoint=tmp_path / "openai.safetensors")


@pytest.mark.parametrize(("name", "quick"), [("clip_vitb32", True), ("open_clip:ViT-B-32/laion2b_s34b_b79k", False)])
@torch.inference_mode()
def test_activation_of_the_ffn(name, quick):
    activation = build(name).blocks[0].module.mlp[1]
    x = torch.linspace(-4, 4, 101)
    expected = x * torch.sigmoid(1.702 * x) if quick else x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    assert torch.allclose(activation(x), expected, atol=1e-6)


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "", "cpu:x"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(UserError, match="device"):
        load(TINY, random=True, device=device)


@pytest.mark.parametrize("precision", ["int8", "FP32", "", None])
def test_a_precision_that_does_not_exist(precision):
    with pytest.raises(UserError, match="fp32, bf16, fp16"):
        load(TINY, random=True, precision=precision)


@torch.inference_mode()
def test_bf16_is_autocast_over_float32_weights(tiny):
    half = load(TINY, random=True, device="cpu", precision="bf16")
    images = torch.randn(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    ours, theirs = half.block_inputs(images)[half.depth].x, tiny.block_inputs(images)[tiny.depth].x
    assert next(half.model.parameters()).dtype == torch.float32
    assert not torch.equal(ours.float(), theirs)
    assert (ours.float() - theirs).abs().max() < 0.05 * theirs.abs().max()


# weights -------------------------------------------------------------------------------------------------------------


def test_random_weights_depend_on_the_seed_alone():
    states = torch.get_rng_state(), random.getstate()
    first, second, other = (load(TINY, random=True, seed=seed).weights for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert first == second and first.random and "seed 0" in first.name
    assert other.sha256 != first.sha256


def test_random_and_a_checkpoint_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="--random"):
        load(TINY, checkpoint=tmp_path / "a.pt", random=True)


@pytest.fixture(scope="module")
def state(tiny):
    return {key: value.clone() for key, value in load(TINY, random=True, seed=5).model.state_dict().items()}


def last_sum(backbone):
    with torch.inference_mode(), Probe(backbone, features=["X_sum"], keep=True) as probe:
        return probe.run(torch.ones(1, 3, 48, 80))[backbone.depth, "X_sum"]


WRITERS = {
    "a.safetensors": save_file,
    "a.pt": torch.save,
    "legacy.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "wrapped.pt": lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
    "model.bin": lambda state, path: torch.save({"model": state}, path),
    "parallel.pt": lambda state, path: torch.save(
        {"state_dict": {f"module.{key}": value for key, value in state.items()}}, path
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_checkpoint_round_trip(tmp_path, state, tiny, name):
    WRITERS[name](state, tmp_path / name)
    backbone = load(TINY, checkpoint=tmp_path / name, device="cpu")
    assert fingerprint(backbone.model) == load(TINY, random=True, seed=5, device="cpu").weights.sha256
    assert torch.equal(last_sum(backbone), last_sum(load(TINY, random=True, seed=5, device="cpu")))
    assert not torch.equal(last_sum(backbone), last_sum(tiny))
    assert backbone.weights.name == name and not backbone.weights.random


def test_a_checkpoint_is_named_by_the_digest_of_its_file(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    weights = load(TINY, checkpoint=str(tmp_path / "a.safetensors")).weights
    assert weights.sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()


def test_a_float16_checkpoint_becomes_a_float32_model(tmp_path, state):
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(halves, tmp_path / "half.safetensors")
    loaded = load(TINY, checkpoint=tmp_path / "half.safetensors", device="cpu").model.state_dict()
    assert all(
        torch.equal(loaded[key], value.float()) and loaded[key].dtype == torch.float32
        for key, value in halves.items()
        if value.is_floating_point()
    )


def test_keys_that_do_not_fit_are_named(tmp_path, state):
    first = next(iter(state))
    cases = {
        "missing": {key: value for key, value in state.items() if key != "norm.weight"},
        "unexpected": state | {"norm.wight": torch.zeros(3)},
        "of another shape": state | {first: torch.zeros(7, 7)},
    }
    keys = {"missing": "norm.weight", "unexpected": "norm.wight", "of another shape": rf"{first} \(7, 7\)"}
    for what, content in cases.items():
        save_file(content, tmp_path / "a.safetensors")
        with pytest.raises(UserError, match=rf"a\.safetensors.*1 {what}: {keys[what]}"):
            load(TINY, checkpoint=tmp_path / "a.safetensors")


def test_all_misfits_are_told_at_once(tmp_path, state):
    content = {key: value for key, value in state.items() if key != "norm.weight"} | {"extra": torch.zeros(1)}
    save_file(content, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"1 missing: norm\.weight; 1 unexpected: extra"):
        load(TINY, checkpoint=tmp_path / "a.safetensors")


def test_weights_of_another_model_are_refused(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="does not hold the weights"):
        load("dino_vits16", checkpoint=tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["none.safetensors", "none.pt", "."])
def test_a_checkpoint_that_is_no_file(tmp_path, name):
    with pytest.raises(UserError, match="no such checkpoint file"):
        load(TINY, checkpoint=tmp_path / name)


class Malicious:
    """A pickle that would make a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_refused_and_never_runs(tmp_path, state, legacy):
    ran = tmp_path / "ran"
    for content in (
        Malicious(ran),
        {"state_dict": state, "hook": Malicious(ran)},
        state | {"norm.weight": Malicious(ran)},
    ):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match="weights only"):
            load(TINY, checkpoint=tmp_path / "a.pt")
        assert not ran.exists()
    torch.load(tmp_path / "a.pt", weights_only=False)  # the file does what it says where it is trusted
    assert ran.is_dir()


def test_a_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(UserError, match="weights only"):
        load(TINY, checkpoint=tmp_path / "a.pt")


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [torch.zeros(3)],
        {"a": torch.zeros(3), "epoch": 3},
        {0: torch.zeros(3)},
        5,
        None,
    ],
    ids=["tensor", "list", "mixed", "numbered", "number", "none"],
)
def test_a_checkpoint_of_anything_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt"):
        load(TINY, checkpoint=tmp_path / "a.pt")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no weights\n" * 9,
        lambda data: data[: len(data) // 2],
        lambda data: data[:20],
        lambda data: data[:8] + b"\xff" * 40 + data[48:],
        lambda data: b"\xff" * 8 + data[8:],
    ],
    ids=["empty", "text", "half", "header", "changed", "length"],
)
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_a_damaged_checkpoint_is_refused(tmp_path, state, name, damage):
    WRITERS[name](state, tmp_path / name)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        load(TINY, checkpoint=tmp_path / name)


@settings(max_examples=100, deadline=None, database=None)
@given(data=st.binary(max_size=120), suffix=st.sampled_from([".pt", ".safetensors"]))
def test_random_bytes_are_no_checkpoint(tmp_path_factory, data, suffix):
    path = tmp_path_factory.getbasetemp() / f"noise{suffix}"
    path.write_bytes(data)
    with pytest.raises(UserError, match="noise"):
        read_state_dict(path)


def test_a_safetensors_header_of_a_wrong_type(tmp_path):
    header = json.dumps({"a": {"dtype": "NO", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(UserError, match="safetensors"):
        load(TINY, checkpoint=tmp_path / "a.safetensors")
