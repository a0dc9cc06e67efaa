"""Sums of parts against the recipes' own cosines, and parts against plain loops, in every family."""

import dataclasses

import open_clip
import pytest
import timm
import torch
from open_clip.model import CLIP
from torch.nn.functional import normalize

import clearclip
from analysis.attribution.parts import decompose
from analysis.attribution.readout import Readout
from clearclip.errors import UserError
from clearclip.interventions import Channels, Clamp, Heads, Neurons, Registers, intervene
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import RECIPES, recipe
from tests.small_models import SQUARE, block_inputs, close, config, noisy, pictures, split, texts, visual_of

HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}
DOUBLE = torch.float64
SUMS = [name for name, known in RECIPES.items() if not known.pipeline and not known.needs_truth]


def wrapped(module, name="clip"):
    return noisy(clearclip.wrap(module.eval().requires_grad_(False), name, preprocessing=HALVES))


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return wrapped(CLIP(**config(3)))


@pytest.fixture(scope="module")
def deep():
    torch.manual_seed(0)
    return wrapped(CLIP(**config(12)))


@pytest.fixture(scope="module")
def dino():
    torch.manual_seed(1)
    return wrapped(timm.create_model("vit_tiny_patch16_224", **SMALL, dynamic_img_size=True), "dino")


FAMILIES = {
    "open_clip": lambda: CLIP(**config(3)),
    "dino": lambda: timm.create_model("vit_tiny_patch16_224", **SMALL, dynamic_img_size=True),
    "dinov2 with registers": lambda: timm.create_model("vit_small_patch14_reg4_dinov2", **SMALL, dynamic_img_size=True),
    "dinov3": lambda: timm.create_model("vit_small_patch16_dinov3", **SMALL, dynamic_img_size=True),
    "eva02, inner norms and SwiGLU": lambda: timm.create_model(
        "eva02_base_patch16_clip_224", **SMALL, dynamic_img_size=True
    ),
}


def of_timm_clip(trunk, pool, **options):
    """An open_clip CLIP with a trunk of timm, as SigLIP, EVA02-CLIP and PE are."""
    model = CLIP(**config(1))
    visual = open_clip.timm_model.TimmModel("vit_tiny_patch16_224", 48, image_size=32, pool="avg", proj="")
    visual.trunk = timm.create_model(trunk, **SMALL, num_classes=0, global_pool=pool, dynamic_img_size=True, **options)
    visual.head = torch.nn.Sequential()
    model.visual = visual
    return model


@pytest.fixture(scope="module", params=[*FAMILIES, "siglip", "eva clip"])
def family(request):
    torch.manual_seed(0)
    if request.param == "siglip":
        return wrapped(of_timm_clip("vit_base_patch16_siglip_224", "map"))
    if request.param == "eva clip":
        return wrapped(of_timm_clip("eva02_base_patch16_clip_224", "avg"))
    return wrapped(FAMILIES[request.param]())


def vectors(model, count=4):
    tokens = torch.zeros(1, 1, model.width, dtype=model.dtype)
    width = model.project(tokens).shape[-1] if model.has_projection else model.width
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(4)), dim=1)


def in_float64(model):
    """The model's weights in float64, with precision fp32: they are its own type."""
    module = model.model.double()
    return dataclasses.replace(model, model=module)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_the_parts_of_a_model_add_up_to_its_own_cosines(family, size, dtype):
    model = in_float64(family) if dtype == DOUBLE else family
    try:
        images, t = pictures(size).to(dtype), vectors(family).to(dtype)
        parts = decompose(Readout(model, t), images, RECIPES["clip"])
        with torch.inference_mode():
            x = model.last_tokens(images)[:, model.prefix_tokens :]
            own = normalize(model.project(x) if model.has_projection else x, dim=-1) @ normalize(t, dim=1).T
        tolerance = 1e-10 if dtype == DOUBLE else 1e-5
        assert (parts.values.sum(2) - own).abs().max() < tolerance and (parts.cosines - own).abs().max() < tolerance
        assert len(parts.components) == len(set(parts.components)) == parts.values.shape[2]
    finally:
        family.model.float()


@pytest.mark.parametrize("name", SUMS)
def test_the_parts_of_a_recipe_add_up_to_its_cosines(deep, dino, name):
    proxy = dino if RECIPES[name].needs_guide else None
    for size in (SQUARE, (24, 40)):
        images, t = pictures(size), texts(deep)
        features = DenseEncoder(deep, [name], proxy).encode(images, texts=t).features[name]
        parts = decompose(Readout(deep, t), images, RECIPES[name], proxy)
        assert (parts.values.sum(2) - features @ t.T).abs().max() < 1e-5
        assert (parts.cosines - features @ t.T).abs().max() < 1e-5


@pytest.mark.parametrize(
    "text", ["clip beta=0.25", "clip normalize_residual=yes ffn=no", "clip beta=0.1 normalize_residual=yes alpha=2", "clip layer=2",
             "clip alpha=0 ffn=no layer=3", "clearclip alpha=3 ffn=yes", "clip cls_weight=-0.3"],
)  # fmt: skip
def test_every_knob_adds_up(clip, text):
    images, t, which = pictures((24, 40)), texts(clip), recipe(text)
    features = DenseEncoder(clip, [which])(images)[which.name]
    assert (decompose(Readout(clip, t), images, which).values.sum(2) - features @ t.T).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["sc_clip", "sfp", "corrclip", "oracle"])
def test_recipes_that_mix_patches_are_refused(clip, name):
    with pytest.raises(UserError, match="Take one without such stages"):
        decompose(Readout(clip, texts(clip)), pictures(SQUARE), RECIPES[name])


def test_the_parts_of_the_class_token_by_gandelsmans_formula(clip):
    """Plain loops over heads and source tokens, arXiv 2310.05916 eq. 3–6: MSA is a sum over heads and tokens."""
    visual, t = visual_of(clip), texts(clip).double()
    # CLS is asked for as a patch would be: a view that counts no prefix tokens
    view = dataclasses.replace(clip)
    view.__class__ = type("WithoutPrefix", (type(clip),), {"prefix_tokens": 0})
    images = pictures(SQUARE)
    parts = decompose(Readout(view, texts(clip)), images, RECIPES["clip"])
    index = {component: i for i, component in enumerate(parts.components)}
    for i, image in enumerate(images.double()):
        _, inputs = block_inputs(visual, image)
        blocks = visual.transformer.resblocks
        last = blocks[-1](inputs[-1][None])[0][0]
        deviation = (last.var(unbiased=False) + visual.ln_post.eps).sqrt()
        length = (visual.ln_post(last) @ visual.proj).norm()

        def score(part, deviation=deviation, length=length):
            return ((part - part.mean()) / deviation * visual.ln_post.weight) @ visual.proj @ t.T / length

        assert close(parts.values[i, 0, index["embedding", 0, 0]].double(), score(inputs[0][0]), 1e-4)
        for layer, (block, x) in enumerate(zip(blocks, inputs, strict=True), 1):
            _, heads = split(block, x)
            width = heads[0][0].shape[1]
            for h, (q, k, v) in enumerate(heads):
                weights = (q[0] @ k.T / width**0.5).softmax(0)
                columns = block.attn.out_proj.weight[:, h * width : (h + 1) * width]
                total = sum(score(weights[j] * (columns @ v[j])) for j in range(len(v)))
                assert (parts.values[i, 0, index["head", layer, h + 1]].double() - total).abs().max() < 1e-6
            x_sum = x + block.attn(*[block.ln_1(x)[None]] * 3, need_weights=False)[0][0]
            hidden = block.mlp[1](block.mlp[0](block.ln_2(x_sum[0])))
            neurons = sum(score(hidden[n] * block.mlp[2].weight[:, n]) for n in range(len(hidden)))
            assert (parts.values[i, 0, index["ffn", layer, 0]].double() - neurons).abs().max() < 1e-6
            biases = score(block.attn.out_proj.bias) + score(block.mlp[2].bias)
            assert (parts.values[i, 0, index["bias", layer, 0]].double() - biases).abs().max() < 1e-6
        constant = visual.ln_post.bias @ visual.proj @ t.T / length
        assert (parts.values[i, 0, index["norm", 0, 0]].double() - constant).abs().max() < 1e-6


@pytest.mark.parametrize("changes", [
    [Heads(2, (1,))], [Neurons(1, (3, 4))], [Channels(2, (5,), "X_res")], [Channels(3, (5,), "X_sum", "mean")],
    [Channels(1, (2,), "X_attn")], [Clamp(2, 1.05)], [Registers(2, ((1, 4),))], [Heads(3, (1,)), Channels(2, (1,), "X_sum")],
])  # fmt: skip
def test_with_interventions_the_parts_add_up_and_say_what_they_have_put_in(clip, changes):
    view = intervene(clip, changes)
    images, t = pictures((24, 40)), texts(clip)
    parts = decompose(Readout(view, t), images, RECIPES["clip"])
    features = DenseEncoder(view, ["clip"])(images)["clip"]
    assert (parts.values.sum(2) - features @ t.T).abs().max() < 1e-5
    put_in = sum(
        parts.values[:, :, i].abs().max()
        for i, component in enumerate(parts.components)
        if component.kind == "intervention"
    )
    only_silences = all(isinstance(change, Heads | Neurons | Registers) for change in changes)
    assert put_in < 1e-5 if only_silences else put_in > 1e-3
    if changes == [Heads(2, (1,))]:
        off = [i for i, component in enumerate(parts.components) if component[:3] == ("head", 2, 1)]
        assert not parts.values[:, :, off].any()


def test_vectors_of_another_width_are_refused(clip):
    with pytest.raises(UserError, match="features of 48 numbers"):
        Readout(clip, torch.zeros(3, 7))
