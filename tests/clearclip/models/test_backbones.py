from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision.transforms as T
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analysis.probes.probe import Probe
from clearclip.errors import UserError
from clearclip.models.load import resolve
from clearclip.models.timm import TimmBlock
from clearclip.models.weights import fingerprint


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
def case(request, build):
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


def test_normalize_is_the_last_step_of_the_transform(case):
    size = case.expected.size
    white = case.backbone.transform()(Image.new("RGB", (size, size), (255, 255, 255)))
    gray = torch.full((2, 3, size, size), 0.5)
    assert torch.equal(case.backbone.normalize(torch.ones(3, size, size)), white)
    config = case.backbone.preprocessing
    theirs = T.Normalize(config["mean"], config["std"])(gray)
    assert torch.equal(case.backbone.normalize(gray), theirs)
    assert torch.allclose(case.backbone.denormalize(theirs), gray, atol=1e-6)
    assert case.backbone.normalize(gray.half()).dtype == torch.float16


def test_who_has_a_text_tower(case):
    assert case.backbone.has_text == case.backbone.has_projection
    if not case.backbone.has_text:
        with pytest.raises(UserError, match=r"no text tower.*clip_vitb16"):
            case.backbone.encode_texts(["a horse"])
    assert case.backbone.untrained(["horse"]) == []


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


def test_a_block_of_another_class_is_refused_with_those_that_are_known():
    with pytest.raises(
        UserError, match=r"torch\.Linear are not supported; supported are timm\.Block, timm\.EvaBlock\."
    ):
        TimmBlock(torch.nn.Linear(2, 2))


def test_blip_encodes_texts_as_the_library_compares_them(build):
    """The library's own score of a picture and a text is the cosine of our two embeddings."""
    backbone, encoding = build("blip_vitb16"), pytest.importorskip("transformers").BatchEncoding
    tokens = {"input_ids": torch.tensor([[101, 7, 8, 102], [101, 9, 102, 0]])}
    tokens["attention_mask"] = (tokens["input_ids"] != 0).long()

    def tokenizer(texts, **how):
        assert texts == ["a horse", "sky"] and how == {"padding": True, "truncation": True, "return_tensors": "pt"}
        return encoding(tokens)

    vars(backbone)["tokenizer"] = tokenizer
    images = torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        rows = backbone.encode_texts(["a horse", "sky"])
        cls = backbone.project(backbone.last_tokens(images))[:, 0]
        theirs = backbone.model(**tokens, pixel_values=images, use_itm_head=False).itm_score
    assert torch.allclose(F.cosine_similarity(cls, rows), theirs.flatten(), atol=1e-5)
