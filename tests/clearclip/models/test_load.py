import math
import random
import sys

import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from analysis.probes.probe import Probe
from clearclip import load
from clearclip.errors import UserError
from clearclip.models.load import LIBRARIES, has_text, resolve
from clearclip.models.names import ALIASES, SHIPPED
from clearclip.segmentation.text import embed

TINY = "timm:test_vit"


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
def test_activation_of_the_ffn(name, quick, build):
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


def test_a_new_family_is_one_file_and_one_line(monkeypatch):
    monkeypatch.setitem(LIBRARIES, "toy", "toy_library")
    toy = load("toy:two", device="cpu")
    assert toy.weights.name == "two, by hand" and not toy.weights.random and has_text("toy:two")
    assert load("toy:two", random=True, seed=3).weights == load("toy:two", random=True, seed=3).weights
    images = toy.transform()(Image.new("RGB", (20, 30), (255, 0, 128)))[None]
    assert images[0, :, 0, 0].tolist() == pytest.approx([1, -0.25, (128 / 255 - 0.125) / 2])
    with torch.inference_mode(), Probe(toy, keep=True) as probe:
        maps = probe.run(images)
        for layer, block in enumerate(toy.blocks, 1):
            assert torch.equal(maps[layer, "X_res"] + maps[layer, "X_attn"], maps[layer, "X_sum"])
            y = block.norm1(maps[layer, "X_res"])
            q, k, v = block.qkv(y)
            assert torch.allclose(block.output((q @ k.mT / 2).softmax(-1) @ v, y), maps[layer, "X_attn"], atol=1e-6)
        assert torch.equal(toy.last_tokens(images), toy.model(images))
    rows = embed(toy, "cat, elephant", ["a {}"]).embeddings
    assert rows.tolist() == [pytest.approx([5 / 26**0.5, 1 / 26**0.5]), pytest.approx([10 / 101**0.5, 1 / 101**0.5])]
    with pytest.raises(UserError, match="It has: two"):
        load("toy:three")
    with pytest.raises(UserError, match=r"one of timm, .*, toy\."):
        load("toi:two")


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "clearclip.models.blip", raising=False)
    assert resolve("blip_vitb16")
    for ask in (lambda: load("blip_vitb16", random=True), lambda: has_text("blip_vitb16")):
        with pytest.raises(UserError, match=r"transformers library.*clearclip-analysis\[blip\]"):
            ask()


def test_which_models_have_a_text_tower():
    pytest.importorskip("transformers", reason="BLIP is an optional extra")
    without = {name for name in ALIASES if name.startswith(("dino", "mae"))}
    assert {name for name in ALIASES if not has_text(name)} == without
    with pytest.raises(UserError, match="Closest"):
        has_text("clip-vit-b16")


def test_a_shipped_model_never_asks_the_hub(monkeypatch):
    def fails():
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("clearclip.models.hub.reachable", fails)
    for name in SHIPPED:
        short, full = load(name, device="cpu"), load(f"zoo:{name}", device="cpu")
        assert short.weights == full.weights and "shipped" in short.weights.name
    with pytest.raises(UserError, match="There are: clip_tiny, dino_tiny"):
        load("zoo:clip_small")
