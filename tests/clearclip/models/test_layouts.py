"""Checkpoints in the layouts that people have, written by the libraries' own classes with random weights."""

import argparse
import copy
import warnings

import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file
from timm.models import VisionTransformer

from clearclip import load
from clearclip.errors import UserError
from clearclip.models import open_clip, timm
from clearclip.models.backbone import Plan
from clearclip.models.checkpoint import load_checkpoint
from clearclip.models.likeness import Likeness
from clearclip.models.weights import fingerprint

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def vit(**options):
    """A small vision transformer of timm, whose parameters are all different."""
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0} | options
    return shaken(VisionTransformer(**{"mlp_ratio": 2} | options))


def clip(quick_gelu=True):
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 2}
    text = {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1, "mlp_ratio": 2}
    return shaken(CLIP(16, vision, text, quick_gelu=quick_gelu))


def shaken(model):
    """Every number another one, also where training starts with ones and zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return model.eval()


def put(model, path, library=timm, twin=None):
    plan = Plan(lambda trained: model, None, None, "this", convert=library.convert, twin=twin)
    return load_checkpoint(model, path, "this", plan)


def fresh(model):
    """The same architecture with other numbers."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.zero_()
    return other


def saved(content, path):
    torch.save(content, path)
    return path


def pretrained(model, folder):
    """The file that transformers itself writes, which is what lies on the hub."""
    shaken(model).save_pretrained(folder)
    return folder / "model.safetensors"


def same(model, path, reference, library=timm, notes=()):
    """The file gives the model exactly the numbers of another, and the notes name what was left out."""
    other = fresh(model)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        put(other, path, library)
    assert fingerprint(other) == fingerprint(reference)
    messages = [str(warning.message) for warning in record]
    assert len(messages) == len(notes) and all(map(str.__contains__, messages, notes)), messages


# wrappers and prefixes -----------------------------------------------------------------------------------------------


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


WRAPPED = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1, arch="vit")},
    "module.": lambda state: prefixed(state, "module."),
    "model.": lambda state: prefixed(state, "model."),
    "backbone.": lambda state: prefixed(state, "backbone."),
    "_orig_mod.": lambda state: prefixed(state, "_orig_mod."),
    "several": lambda state: {"state_dict": prefixed(state, "model._orig_mod.module.")},
    "in chunks": lambda state: {key.replace("blocks.1.", "blocks.0.1."): value for key, value in state.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers_and_prefixes(tmp_path, wrapper):
    model = vit()
    same(model, saved(WRAPPED[wrapper](model.state_dict()), tmp_path / "a.pth"), model)


@pytest.mark.parametrize("prefix", ["", "clip.", "model.", "module.", "_orig_mod."])
def test_prefixes_of_a_clip(tmp_path, prefix):
    model = clip()
    same(model, saved({"state_dict": prefixed(model.state_dict(), prefix)}, tmp_path / "a.pt"), model, open_clip)


def test_a_full_checkpoint_of_dino_is_its_teacher(tmp_path):
    teacher, student = vit(), fresh(vit())
    head = {"module.head.mlp.0.weight": torch.ones(4, 32), "module.head.last_layer.weight": torch.ones(9, 4)}
    content = {
        "student": prefixed(student.state_dict(), "module.backbone.") | head,
        "teacher": prefixed(teacher.state_dict(), "backbone.") | {"head.mlp.0.weight": torch.ones(4, 32)},
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": []},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", lr=0.0005),
        "dino_loss": {"center": torch.zeros(1, 9)},
    }
    path = saved(content, tmp_path / "dino_full.pth")
    same(vit(), path, teacher, notes=["teacher is taken, and not student", "left out: the head."])


def test_of_two_models_in_one_dictionary_the_teacher_is_taken(tmp_path):
    model = vit()
    state = prefixed(fresh(model).state_dict(), "student.backbone.") | prefixed(model.state_dict(), "teacher.backbone.")
    same(model, saved(state, tmp_path / "a.pth"), model, notes=["left out: student.backbone"])
    state = prefixed(model.state_dict(), "a.") | prefixed(model.state_dict(), "b.")
    with pytest.raises(UserError, match=r"a\.pth does not hold .*it holds several models, below a\., b\."):
        put(vit(), saved(state, tmp_path / "a.pth"))


# the authors' files --------------------------------------------------------------------------------------------------


def test_metas_dinov2(tmp_path):
    model = vit(init_values=1e-5)
    state = model.state_dict() | {"mask_token": torch.ones(1, 32)}
    same(model, saved(state, tmp_path / "dinov2.pth"), model, notes=["left out: the mask token"])


def test_metas_dinov2_with_registers(tmp_path):
    """Where timm keeps the position of the CLS token in the token, Meta keeps it beside those of the patches."""
    model = vit(init_values=1e-5, reg_tokens=4, no_embed_class=True)
    state = model.state_dict()
    position = torch.full((1, 1, 32), 0.25)
    meta = state | {
        "mask_token": torch.ones(1, 32),
        "register_tokens": state["reg_token"],
        "cls_token": state["cls_token"] - position,
        "pos_embed": torch.cat([position, state["pos_embed"]], 1),
    }
    del meta["reg_token"]
    other = fresh(model)
    with pytest.warns(UserWarning, match="the mask token"):
        put(other, saved(meta, tmp_path / "dinov2_reg.pth"))
    assert torch.equal(other.cls_token, (state["cls_token"] - position) + position)
    assert torch.equal(other.pos_embed, state["pos_embed"]) and torch.equal(other.reg_token, state["reg_token"])


def test_metas_dinov3(tmp_path):
    """timm's converter drops its biases where the architecture has none, which is right only if they are zero."""
    from timm.models.eva import Eva

    options = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 1,
        "num_heads": 2,
        "num_classes": 0,
        "mlp_ratio": 2,
    }
    options |= {"use_abs_pos_emb": False, "use_rot_pos_emb": True, "num_reg_tokens": 4, "no_embed_class": True}
    model = shaken(Eva(**options, init_values=1.0, qkv_bias=False))
    meta = {
        key.replace("reg_token", "storage_tokens")
        .replace("gamma_1", "ls1.gamma")
        .replace("gamma_2", "ls2.gamma"): value
        for key, value in model.state_dict().items()
    }
    meta |= {
        "mask_token": torch.ones(1, 32),
        "blocks.0.attn.qkv.bias": torch.zeros(96),
        "rope_embed.periods": torch.ones(4),
    }
    same(model, saved(meta, tmp_path / "dinov3.pth"), model, notes=["left out: the mask token"])
    with pytest.raises(UserError, match=r"biases of q, k and v .*_qkvb"):
        put(model, saved(meta | {"blocks.0.attn.qkv.bias": torch.ones(96)}, tmp_path / "biases.pth"))


def test_a_full_file_of_mae(tmp_path):
    model, decoder = vit(), VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2)
    decoding = {f"decoder_{key}": value for key, value in decoder.state_dict().items()}
    content = {
        "model": model.state_dict()
        | decoding
        | {"mask_token": torch.ones(1, 1, 16), "decoder_pred.bias": torch.ones(9)},
        "optimizer": {"param_groups": []},
        "args": argparse.Namespace(mask_ratio=0.75),
    }
    same(model, saved(content, tmp_path / "mae.pth"), model, notes=["left out: the decoder, the mask token"])


def test_a_training_file_of_timm_with_its_head(tmp_path):
    trained = vit(num_classes=10)
    content = {"state_dict": trained.state_dict(), "arch": "vit_small", "epoch": 7, "metric": 80.1}
    model = vit()
    model.load_state_dict(trained.state_dict(), strict=False)
    same(vit(), saved(content, tmp_path / "model_best.pth.tar"), model, notes=["left out: the head"])


def test_a_head_for_other_classes_is_left_out(tmp_path):
    model = vit(num_classes=1000)
    with pytest.warns(UserWarning) as record:
        put(model, saved({"state_dict": vit(num_classes=10).state_dict()}, tmp_path / "mine.pth"))
    notes = [str(warning.message) for warning in record]
    assert notes == ["mine.pth: not needed and left out: the head.", "mine.pth does not have the head of this."]
    assert torch.equal(model.blocks[1].mlp.fc2.weight, vit(num_classes=10).blocks[1].mlp.fc2.weight)


def test_a_backbone_alone_is_enough_for_a_model_with_a_head(tmp_path):
    model = vit(num_classes=10)
    with pytest.warns(UserWarning, match="does not have the head"):
        put(model, saved(vit().state_dict(), tmp_path / "a.pth"))
    assert torch.equal(model.norm.weight, vit().norm.weight)


def test_something_unknown_inside_the_model_is_still_refused(tmp_path):
    for key in ("blocks.0.attn.q_norm.weight", "adapter.weight"):
        with pytest.raises(UserError, match=f"1 unexpected: {key}"):
            put(
                vit(),
                saved(vit().state_dict() | {key: torch.ones(16), "mask_token": torch.ones(1, 32)}, tmp_path / "a.pth"),
            )


def test_a_converter_that_fails_is_one_message(tmp_path):
    """timm transposes the projection, which here is no matrix."""
    state = clip().state_dict() | {"visual.proj": torch.ones(16)}
    with pytest.raises(
        UserError, match=r"a\.pth does not hold the weights of this: it cannot be converted \(IndexError"
    ):
        put(vit(pre_norm=True), saved(state, tmp_path / "a.pth"))


def test_an_empty_dictionary_beside_the_weights_is_not_mentioned(tmp_path):
    model = vit()
    same(model, saved({"state_dict": model.state_dict(), "callbacks": {}}, tmp_path / "a.ckpt"), model)


# transformers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="transformers is an optional extra")


def both(model, folder):
    """The layout of the hub and that of the class in memory, which differ."""
    folder.mkdir()
    yield pretrained(model, folder)
    yield saved(model.state_dict(), folder / "memory.pt")


def agrees(ours, theirs):
    """The tokens after the final norm, against transformers' own code."""
    with torch.inference_mode():
        assert torch.allclose(ours.forward_features(PIXELS), theirs(PIXELS).last_hidden_state, atol=2e-5)


@pytest.mark.parametrize("prefix", ["", "vit."])
def test_dino_of_transformers(tmp_path, transformers, prefix):
    theirs = transformers.ViTModel(transformers.ViTConfig(**SIZE, intermediate_size=64, layer_norm_eps=1e-6)).eval()
    first = None
    for path in both(theirs, tmp_path / "vit"):
        ours = vit()
        if prefix:
            state = prefixed(theirs.state_dict(), prefix) | {"classifier.weight": torch.ones(9, 32)}
            path = saved(state, tmp_path / "a.pt")
        with pytest.warns(UserWarning, match=r"left out: the head\."):
            put(ours, path)
        agrees(ours, theirs)
        first = first or fingerprint(ours)
        assert fingerprint(ours) == first


def test_mae_of_transformers(tmp_path, transformers):
    config = transformers.ViTMAEConfig(
        **SIZE, layer_norm_eps=1e-6, intermediate_size=64, decoder_hidden_size=32, decoder_num_attention_heads=2
    )
    theirs = transformers.ViTMAEForPreTraining(config).eval()
    ours = vit()
    with pytest.warns(UserWarning, match=r"left out: the decoder\."):
        put(ours, pretrained(theirs, tmp_path))
    with torch.inference_mode():
        tokens = theirs.vit.embeddings.patch_embeddings(PIXELS) + theirs.vit.embeddings.position_embeddings[:, 1:]
        start = theirs.vit.embeddings.cls_token + theirs.vit.embeddings.position_embeddings[:, :1]
        tokens = torch.cat([start.expand(2, -1, -1), tokens], 1)
        for layer in theirs.vit.layers:
            tokens = layer(tokens)
        assert torch.allclose(ours.forward_features(PIXELS), theirs.vit.layernorm(tokens), atol=2e-5)


@pytest.mark.parametrize("kind", ["mlp", "swiglu", "registers"])
def test_dinov2_of_transformers(tmp_path, transformers, kind):
    if kind == "registers":
        config = transformers.Dinov2WithRegistersConfig(**SIZE, mlp_ratio=2, num_register_tokens=4)
        theirs, options = transformers.Dinov2WithRegistersModel(config), {"reg_tokens": 4, "no_embed_class": True}
    else:
        config = transformers.Dinov2Config(**SIZE, mlp_ratio=2, use_swiglu_ffn=kind == "swiglu")
        theirs, options = transformers.Dinov2Model(config), {}
    if kind == "swiglu":
        from timm.layers import SwiGLUPacked

        options |= {"mlp_ratio": 3, "mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
    files = both(theirs.eval(), tmp_path / "dinov2")
    for path in [next(files)] if kind == "swiglu" else files:  # in memory, its gates are called otherwise
        ours = vit(init_values=1.0, **options)
        with pytest.warns(UserWarning, match="left out: the mask token"):
            put(ours, path)
        agrees(ours, theirs)


def clip_of_transformers(transformers):
    config = transformers.CLIPConfig(
        text_config=TEXT | {"vocab_size": 64, "max_position_embeddings": 16, "eos_token_id": 63},
        vision_config=SIZE | {"intermediate_size": 64, "projection_dim": 16},
        projection_dim=16,
    )
    return transformers.CLIPModel(config).eval()


def test_clip_of_transformers(tmp_path, transformers):
    theirs = clip_of_transformers(transformers)
    ours = fresh(clip())
    put(ours, pretrained(theirs, tmp_path), open_clip)
    texts = torch.randint(1, 60, (3, 16))
    texts[:, -1] = 63  # the largest number ends a text
    with torch.inference_mode():
        images, words = theirs.get_image_features(PIXELS), theirs.get_text_features(texts)
        assert torch.allclose(ours.encode_image(PIXELS), getattr(images, "pooler_output", images), atol=2e-5)
        assert torch.allclose(ours.encode_text(texts), getattr(words, "pooler_output", words), atol=2e-5)
    assert ours.logit_scale == theirs.logit_scale
    native = saved(ours.state_dict(), tmp_path / "native.pt")
    same(ours, native, ours, open_clip)


def test_clip_of_transformers_for_timm(tmp_path, transformers):
    """Two conversions in a row: ours to OpenAI's layout, and timm's from there."""
    from timm.layers import QuickGELU

    theirs = clip_of_transformers(transformers)
    ours = vit(pre_norm=True, norm_layer=torch.nn.LayerNorm, act_layer=QuickGELU)
    with pytest.warns(UserWarning, match="left out: the text tower, the projection to texts"):
        put(ours, pretrained(theirs, tmp_path))
    with torch.inference_mode():
        tokens = theirs.vision_model.post_layernorm(theirs.vision_model(PIXELS).last_hidden_state)
        assert torch.allclose(ours.forward_features(PIXELS), tokens, atol=2e-5)


@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPVisionModelWithProjection"])
def test_an_image_tower_of_transformers_alone(tmp_path, transformers, kind):
    whole = clip_of_transformers(transformers)
    theirs = getattr(transformers, kind)(whole.config.vision_config).eval()
    ours = fresh(clip())
    with pytest.warns(UserWarning, match="does not have the text tower"):
        weights = put(ours, pretrained(theirs, tmp_path), open_clip)
    assert weights.without_text
    with torch.inference_mode():
        pooled = theirs(PIXELS)
        if kind == "CLIPVisionModel":
            assert ours.visual.proj is None
            assert torch.allclose(ours.visual(PIXELS), pooled.pooler_output, atol=2e-5)
        else:
            assert torch.allclose(ours.visual(PIXELS), pooled.image_embeds, atol=2e-5)


def siglip():
    """A small SigLIP of open_clip, with a trunk of timm."""
    text = {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1, "mlp_ratio": 2}
    text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "none", "image_size": 32}
    model = CustomTextCLIP(32, vision, text, init_logit_bias=-10)
    model.visual.trunk = vit(class_token=False, global_pool="map", act_layer=lambda: torch.nn.GELU(approximate="tanh"))
    return shaken(model)


def test_siglip_of_transformers(tmp_path, transformers):
    text = TEXT | {"vocab_size": 64, "max_position_embeddings": 16, "projection_size": 32}
    config = transformers.SiglipConfig(text_config=text, vision_config=SIZE | {"intermediate_size": 64})
    theirs = transformers.SiglipModel(config).eval()
    ours = fresh(siglip())
    put(ours, pretrained(theirs, tmp_path), open_clip)
    with torch.inference_mode():
        vision = theirs.vision_model(PIXELS)
        assert torch.allclose(ours.visual.trunk.forward_features(PIXELS), vision.last_hidden_state, atol=2e-5)
        assert torch.allclose(ours.visual.trunk(PIXELS), vision.pooler_output, atol=2e-5)
    assert ours.logit_bias == theirs.logit_bias and ours.logit_bias.shape == ()
    assert torch.equal(ours.text.text_projection.weight, theirs.text_model.head.weight)
    assert torch.equal(ours.text.positional_embedding, theirs.text_model.embeddings.position_embedding.weight)


def test_a_trunk_of_timm_alone_for_siglip(tmp_path):
    trunk, model = siglip().visual.trunk, fresh(siglip())
    with pytest.warns(UserWarning, match="does not have the text tower"):
        put(model, saved(trunk.state_dict(), tmp_path / "siglip.pth"), open_clip)
    assert fingerprint(model.visual.trunk) == fingerprint(trunk)


# CLIP ----------------------------------------------------------------------------------------------------------------

SIZES = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(16), "vocab_size": torch.tensor(64)}


def test_openais_plain_state_dict_in_half_precision(tmp_path):
    model = clip().half().float()
    state = {key: value.half() for key, value in model.state_dict().items()} | SIZES
    same(model, saved(state, tmp_path / "ViT-B-16.pt"), model, open_clip, notes=["left out: OpenAI's sizes"])


def test_openais_weights_in_a_layout_with_its_own_text_tower(tmp_path):
    """open_clip's conversion: the text tower's keys move below `text.`."""
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 2}
    text = {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1, "mlp_ratio": 2}
    model = CustomTextCLIP(16, vision, text, quick_gelu=True)
    put(model, saved(clip().state_dict(), tmp_path / "a.pt"), open_clip)
    assert torch.equal(model.text.token_embedding.weight, clip().token_embedding.weight)
    assert fingerprint(model.visual) == fingerprint(clip().visual)


@pytest.mark.parametrize("prefix", ["", "visual.", "module.visual."])
def test_an_image_tower_alone(tmp_path, prefix):
    model, other = clip(), fresh(clip())
    with pytest.warns(UserWarning, match="does not have the text tower"):
        weights = put(other, saved(prefixed(model.visual.state_dict(), prefix), tmp_path / "a.pt"), open_clip)
    assert weights.without_text and fingerprint(other.visual) == fingerprint(model.visual)


def test_half_a_text_tower_is_refused(tmp_path):
    state = {key: value for key, value in clip().state_dict().items() if "ln_final" not in key}
    with pytest.raises(UserError, match=r"2 missing: ln_final\.bias, ln_final\.weight"):
        put(clip(), saved(state, tmp_path / "a.pt"), open_clip)


def test_an_image_tower_alone_is_not_asked_for_texts(tmp_path, tiny_clip):
    whole = load(tiny_clip, random=True, device="cpu")
    state = {f"visual.{key}": value for key, value in whole.model.visual.state_dict().items()}
    save_file(state, tmp_path / "tower.safetensors")
    model = load(tiny_clip, checkpoint=tmp_path / "tower.safetensors", device="cpu")
    assert torch.equal(model.last_tokens(PIXELS), whole.last_tokens(PIXELS))
    with pytest.raises(UserError, match=r"tower\.safetensors holds an image tower alone.*--text-embeddings"):
        model.encode_texts(["a photo of a horse."])


@pytest.mark.parametrize("fuse", [True, False])
def test_a_fused_or_split_qkv(tmp_path, fuse):
    model = vit()
    split = {}
    for key, value in model.state_dict().items():
        parts = zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True)
        split |= {key.replace("qkv", name): part for name, part in parts} if "qkv" in key else {key: value}
    if fuse:
        same(model, saved(split, tmp_path / "a.pth"), model)
        return
    from clearclip.models.conversion import converted

    state = converted(model.state_dict(), split, dict, lambda state: None).state
    assert state.keys() == split.keys() and all(torch.equal(state[key], split[key]) for key in split)


# another architecture, another activation ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "has"),
    [
        ({"patch_size": 16}, "patches of 16 pixels, positions for 2 × 2"),
        ({"depth": 3}, "3 blocks"),
        ({"embed_dim": 48}, "width 48"),
        ({"img_size": 64}, "positions for 8 × 8 patches"),
    ],
)
def test_a_file_of_another_architecture_says_what_it_has(tmp_path, options, has):
    """Patches and positions too, which timm's converter would resize without a word."""
    with pytest.raises(
        UserError, match=rf"does not hold the weights of this: the file has .*{has}.*, the model has width 32, 2 "
    ):
        put(
            vit(), saved({"model": vit(**options).state_dict() | {"mask_token": torch.ones(1, 32)}}, tmp_path / "a.pth")
        )


@pytest.mark.parametrize(
    ("measures", "names"),
    [
        (("dino", 384, 12, 8, 28), ["dino_vits8"]),
        (("dino", 768, 12, 16, 14), ["dino_vitb16", "mae_vitb16"]),
        (("dinov2", 384, 12, 14, 37), ["dinov2_vits14", "dinov2_vits14_reg"]),
        (("clip", 768, 12, 32, 7), ["clip_vitb32"]),
        (("clip", 768, 12, 16, 14), ["clip_vitb16", "openclip_vitb16", "metaclip_vitb16"]),
        (("trunk", 768, 12, 16, 14), ["siglip2_vitb16", "eva02_clip_vitb16"]),
        (("clip", 1280, 32, 14, 16), ["openclip_vith14"]),
        (("dino", 100, 12, 16, 14), []),
    ],
)
def test_it_looks_like_a_named_model(measures, names):
    assert Likeness(*measures).names == names


def test_a_file_of_a_named_model_says_its_name(tmp_path):
    state = load("dino_vits8", random=True, device="cpu").model.state_dict()
    with pytest.raises(
        UserError, match=r"dino\.pth does not hold the weights of timm:vit_small_patch16_224\.dino.*like dino_vits8\."
    ):
        load("dino_vits16", checkpoint=saved({"teacher": prefixed(state, "backbone.")}, tmp_path / "dino.pth"))


def test_openais_weights_are_refused_in_a_model_with_gelu(tmp_path):
    path = saved(clip().state_dict() | SIZES, tmp_path / "ViT-B-16.pt")
    with pytest.raises(UserError, match=r"QuickGELU, and this has GELU.*Use open_clip:ViT-B-16-quickgelu"):
        put(clip(quick_gelu=False), path, open_clip, twin="open_clip:ViT-B-16-quickgelu")
    with pytest.raises(UserError, match="Use an architecture with QuickGELU"):
        put(clip(quick_gelu=False), path, open_clip)
    with pytest.warns(UserWarning) as record:
        put(clip(), path, open_clip, twin="open_clip:ViT-B-16")
    assert [str(warning.message) for warning in record] == ["ViT-B-16.pt: not needed and left out: OpenAI's sizes."]


def test_a_file_that_does_not_tell_its_activation_is_taken_with_a_note(tmp_path):
    path = saved(clip().state_dict(), tmp_path / "a.pt")
    with pytest.warns(UserWarning, match=r"a\.pt does not tell .*this has GELU; for QuickGELU, take open_clip:other"):
        put(clip(quick_gelu=False), path, open_clip, twin="open_clip:other")
    with pytest.warns(UserWarning, match="this has QuickGELU; for GELU, take open_clip:other"):
        put(clip(), path, open_clip, twin="open_clip:other")


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("open_clip:ViT-B-16", "open_clip:ViT-B-16-quickgelu"),
        ("open_clip:ViT-B-16-quickgelu/openai", "open_clip:ViT-B-16"),
        ("open_clip:ViT-B-16-SigLIP2", None),
        ("timm:vit_base_patch16_clip_224", "timm:vit_base_patch16_clip_quickgelu_224"),
        ("timm:vit_base_patch16_clip_quickgelu_224.openai", "timm:vit_base_patch16_clip_224"),
        ("dino_vits16", None),
    ],
)
def test_the_twin_with_the_other_activation(name, twin):
    from clearclip.models.load import plan_of, resolve

    assert plan_of(resolve(name)).twin == twin
