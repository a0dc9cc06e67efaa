"""Every recipe against a slow loop, written from the formulas of the published methods, in float64."""

import copy
import functools
import itertools
from dataclasses import dataclass

import open_clip
import pytest
import timm
import torch
from small_models import OBLONG, SQUARE, Head, block_inputs, close, dense, noisy, pictures, split
from timm.layers import resample_abs_pos_embed
from torch.nn.functional import normalize

from analysis.probes.probe import Probe
from clearclip import load
from clearclip.errors import UserError
from clearclip.methods.affinity import PRODUCTS
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import RECIPES, Recipe, feature_recipe, recipe
from clearclip.models import position
from clearclip.models.backbone import Weights
from clearclip.models.block import FEATURES


def small_timm(name):
    """The family's own blocks, pooling and head, with 3 narrow blocks instead of 12 wide ones."""
    config = open_clip.get_model_config(name)
    text = {key: value for key, value in config["text_cfg"].items() if not key.startswith("hf_")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", functools.partial(timm.create_model, depth=3, embed_dim=96, num_heads=4))
        text |= {"layers": 1, "vocab_size": 64, "width": 64, "heads": 2}
        patch.setitem(open_clip.factory._MODEL_CONFIGS, name, config | {"text_cfg": text})
        return noisy(load(f"open_clip:{name}", random=True, device="cpu"))


@pytest.fixture(scope="module")
def siglip():
    return small_timm("ViT-B-16-SigLIP2")


@pytest.fixture(scope="module")
def eva():
    return small_timm("EVA02-B-16")


@pytest.fixture(scope="module")
def blip():
    transformers = pytest.importorskip("transformers", reason="BLIP is an optional extra")
    from clearclip.models.blip import BlipBackbone

    shape = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    text = shape | {"vocab_size": 64, "encoder_hidden_size": 64, "bos_token_id": 1, "eos_token_id": 2}
    vision = shape | {"image_size": 64, "patch_size": 16}
    tiny = transformers.BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=40)
    torch.manual_seed(0)
    model = transformers.BlipForImageTextRetrieval(tiny).eval().requires_grad_(False)
    normalisation = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    return noisy(BlipBackbone("tiny_blip", model, Weights("random", "0" * 64, True), normalisation))


def encoded(model, images, **knobs):
    return dense(model, images, Recipe("mine", **knobs))


# the loop ------------------------------------------------------------------------------------------------------------


def gem(head):
    """One third of each self-self affinity, each refined once, the temperature from the mean length of y."""
    tau = sum(token.norm() for token in head.y) / len(head.y) / head.v.shape[1] ** 0.5
    total = 0
    for u in (head.v, head.k, head.q):
        u = u / u.norm(dim=1, keepdim=True)
        u = (tau * u @ u.T).softmax(1) @ u
        u = u / u.norm(dim=1, keepdim=True)
        total = total + (tau * u @ u.T).softmax(1) / 3
    return total


def naclip(head):
    """Keys with keys, and a Gaussian of 5 patches around every patch; nothing is added for CLS."""
    scores = head.k @ head.k.T / head.k.shape[1] ** 0.5
    places = list(itertools.product(range(head.grid[0]), range(head.grid[1])))
    for i, (row, column) in enumerate(places):
        for j, (other_row, other_column) in enumerate(places):
            distance = torch.tensor(float((row - other_row) ** 2 + (column - other_column) ** 2))
            scores[1 + i, 1 + j] += torch.exp(-distance / (2 * 5.0**2))
    return scores.softmax(1)


def resclip(head):
    """2·((1 − λ)·A_base + λ·mean over the middle blocks of their own attention), λ = ½."""
    middle = sum(head.softmax(q, k) for q, k in head.middle) / len(head.middle)
    return 2 * (0.5 * head.softmax(head.q, head.q) + 0.5 * middle)


AFFINITIES = {
    "clip": lambda head: head.softmax(head.q, head.k),
    "maskclip": lambda head: torch.eye(len(head.q)).to(head.q),
    "sclip": lambda head: head.softmax(head.q, head.q) + head.softmax(head.k, head.k),
    "clip_surgery": lambda head: head.softmax(head.v, head.v),
    "gem": gem,
    "clearclip": lambda head: head.softmax(head.q, head.q),
    "naclip": naclip,
    "segearth_ov": lambda head: sum(head.softmax(u, u) for u in (head.q, head.k, head.v)),
    "resclip_rcs+clearclip": resclip,
}
LOOPED = [*AFFINITIES, "maskclip+clearclip", "sclip+clearclip", "gem+clearclip"]


def attend(block, x, affinity, grid, middle=()):
    """Proj(A·v) of one image (L, D), head by head."""
    y, heads = split(block, x)
    others = [split(*one)[1] for one in middle]
    values = [
        affinity(Head(*qkv, y, grid, tuple(other[h][:2] for other in others))) @ qkv[2] for h, qkv in enumerate(heads)
    ]
    return torch.cat(values, 1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias


def loop_stream(visual, image, name, affinity):
    """What a recipe hands to the final norm, for one image of float64."""
    grid, inputs = block_inputs(visual, image)
    blocks = visual.transformer.resblocks
    middle = [(blocks[i - 1], inputs[i - 1]) for i in (6, 7, 8, 9)] if name.startswith("resclip") else []
    if name in ("clip_surgery", "gem"):
        x = inputs[-6]
        for block, seen in zip(blocks[-6:], inputs[-6:], strict=True):
            x = x + attend(block, seen, affinity, grid)
        return x
    x_attn = attend(blocks[-1], inputs[-1], affinity, grid, middle)
    if name in ("clip", "maskclip", "sclip"):
        x = inputs[-1] + x_attn
        return x + blocks[-1].mlp(blocks[-1].ln_2(x))
    return x_attn


def loop(model, images, name):
    """A recipe's patch features, image by image."""
    visual = copy.deepcopy(model.model.visual).double()
    affinity = AFFINITIES.get(name) or AFFINITIES[name.partition("+")[0]]
    result = []
    for image in images.double():
        x = loop_stream(visual, image, name, affinity)
        features = visual.ln_post(x) @ visual.proj
        features = features / features.norm(dim=1, keepdim=True)
        extra = -0.3 * features[0] if name == "segearth_ov" else 0
        result.append(features[1:] + extra)
    return torch.stack(result).float()


@pytest.mark.parametrize("size", [SQUARE, OBLONG], ids=["square", "oblong"])
@pytest.mark.parametrize("name", LOOPED)
@torch.inference_mode()
def test_recipe_against_the_loop(clip, name, size):
    assert close(dense(clip, pictures(size), name), loop(clip, pictures(size), name))


@torch.inference_mode()
def test_the_looped_recipes_differ(clip):
    """Otherwise the comparison above would accept one for another."""
    features = [loop(clip, pictures(OBLONG), name) for name in LOOPED]
    for one, other in itertools.combinations(features, 2):
        assert (one - other).abs().max() > 1e-3


def untold():
    """The names of the recipes that are not told the true labels."""
    return [name for name, published in RECIPES.items() if not published.needs_truth]


def without_help():
    """The recipes that need a model and a picture only."""
    return [published for published in RECIPES.values() if not (published.needs_guide or published.needs_truth)]


def hat(side, target):
    """Bilinear resampling of a row with half-pixel centres, as a matrix (target, side)."""
    matrix = torch.zeros(target, side, dtype=torch.float64)
    for row in range(target):
        place = min(max((row + 0.5) * side / target - 0.5, 0), side - 1)
        below = min(int(place), side - 2)
        matrix[row, below], matrix[row, below + 1] = 1 - (place - below), place - below
    return matrix


def proxyclip(head):
    """Softmax over what is alike to DINO, on DINO's grid; v without CLS, resized to it."""
    unit = head.features / head.features.norm(dim=1, keepdim=True)
    S = unit @ unit.T
    scores = 3.0 * (S - 1.2 * S.mean())
    scores[scores < 0] = float("-inf")
    assert 0.1 < scores.isinf().double().mean() < 0.8 and scores.diag().isfinite().all()  # the mask has a say
    rows, columns = (hat(side, target) for side, target in zip(head.grid, head.proxy_grid, strict=True))
    v = torch.einsum("ri,sj,ijc->rsc", rows, columns, head.v[1:].unflatten(0, head.grid)).flatten(0, 1)
    return scores.softmax(1) @ v


@torch.inference_mode()
def test_proxyclip_against_the_loop(clip, dino):
    images, grid, theirs = pictures((48, 80)), (6, 10), (3, 5)
    visual, tower = copy.deepcopy(clip.model.visual).double(), copy.deepcopy(dino.model).double()
    block, expected = visual.transformer.resblocks[-1], []
    mean, std, other_mean, other_std = (
        torch.tensor(one.preprocessing[key]).double()[:, None, None] for one in (clip, dino) for key in ("mean", "std")
    )
    inputs = clip.block_inputs(images, [12])[12].x.double()
    for image, x in zip(images.double(), inputs, strict=True):
        features = tower.forward_features(((image * std + mean - other_mean) / other_std)[None])[0, 1:]
        y, heads = split(block, x)
        values = [proxyclip(Head(*qkv, y, grid, features=features, proxy_grid=theirs)) for qkv in heads]
        x_attn = torch.cat(values, 1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        expected.append(normalize(visual.ln_post(x_attn) @ visual.proj, dim=1))
    encoder = DenseEncoder(clip, ["proxyclip", "clearclip"], dino)
    assert encoder.grid("proxyclip", (48, 80)) == theirs and encoder.grid("clearclip", (48, 80)) == grid
    features = encoder(images)
    assert close(features["proxyclip"], torch.stack(expected).float(), 1e-4)
    assert torch.equal(features["clearclip"], dense(clip, images, "clearclip"))


def test_proxyclip_at_a_size_that_is_no_multiple_of_the_proxys_patch(clip, dino):
    encoder = DenseEncoder(clip, ["proxyclip"], dino)
    assert encoder.grid("proxyclip", (40, 56)) == (2, 3)
    features = encoder(pictures((40, 56)))["proxyclip"]
    assert features.shape == (2, 6, 48) and features.isfinite().all()


def test_proxyclip_of_one_colour_has_no_empty_row(clip, dino):
    assert dense(clip, torch.zeros(1, 3, 48, 48), "proxyclip", proxy=dino).isfinite().all()


# the libraries' own results ------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_clip_is_open_clips_own_patch_tokens(clip):
    images, visual = pictures(SQUARE), clip.model.visual
    theirs = visual.forward_intermediates(images, indices=1, normalize_intermediates=True, output_fmt="NLC")
    theirs = theirs["image_intermediates"][-1] @ visual.proj
    assert close(dense(clip, images, "clip"), normalize(theirs, dim=-1))


@torch.inference_mode()
def test_clip_of_vitb32_is_what_the_visual_tower_returns_as_tokens():
    arch = "ViT-B-32-quickgelu"
    with pytest.MonkeyPatch.context() as patch:
        config = open_clip.get_model_config(arch)
        text = config["text_cfg"] | {"layers": 1, "vocab_size": 64}
        patch.setitem(open_clip.factory._MODEL_CONFIGS, arch, config | {"text_cfg": text})
        model = noisy(load("clip_vitb32", random=True, device="cpu"))
    images, visual = pictures((224, 224)), model.model.visual
    visual.output_tokens = True
    theirs = visual(images)[1] @ visual.proj
    assert close(dense(model, images, "clip"), normalize(theirs, dim=-1))
    features = dense(model, pictures((64, 96)), *(one.name for one in without_help()))
    assert all(one.shape == (2, 6, 512) and one.isfinite().all() for one in features.values())


@torch.inference_mode()
def test_clip_of_eva02_is_the_trunks_own_patch_tokens(eva):
    images, visual = pictures((48, 80)), eva.model.visual
    tokens = visual.trunk.fc_norm(visual.trunk.forward_features(images)[:, 1:])
    assert close(dense(eva, images, "clip"), normalize(visual.head(visual.trunk.head(tokens)), dim=-1))


@torch.inference_mode()
def test_clip_of_siglip2_pools_every_patch_by_itself(siglip):
    images, visual = pictures((48, 80)), siglip.model.visual
    tokens = visual.trunk.forward_features(images)
    alone = [visual.head(visual.trunk.forward_head(tokens[:, i : i + 1])) for i in range(tokens.shape[1])]
    assert close(dense(siglip, images, "clip"), normalize(torch.stack(alone, 1), dim=-1))


@torch.inference_mode()
def test_clip_of_blip_is_its_own_patch_tokens(blip):
    images = pictures((64, 64))
    tokens = blip.model.vision_model(images).last_hidden_state[:, 1:]
    assert close(dense(blip, images, "clip"), normalize(blip.model.vision_proj(tokens), dim=-1))


def families(request):
    return request.getfixturevalue(request.param)


family = pytest.fixture(params=["siglip", "eva", "blip"])(families)


@torch.inference_mode()
def test_other_families_against_their_own_q_k_v(family):
    """Formulas once more over a block's q, k and v, which test_backbones.py has checked."""
    images, block = pictures((48, 80)), family.blocks[-1]
    seen = family.block_inputs(images, [3])[3]
    y = block.norm1(seen.x)
    q, k, v = block.qkv(y, seen.rope)

    def softmax(a, b):
        return (a @ b.mT / a.shape[-1] ** 0.5).softmax(-1)

    def end(x):
        return normalize(family.project(family.final_norm(x)), dim=-1)[:, family.prefix_tokens :]

    sclip = seen.x + block.output((softmax(q, q) + softmax(k, k)) @ v, y)
    expected = {
        "clearclip": end(block.output(softmax(q, q) @ v, y)),
        "maskclip": end(seen.x + block.output(v, y) + block.ffn(seen.x + block.output(v, y))),
        "sclip": end(sclip + block.ffn(sclip)),
    }
    features = dense(family, images, *expected, "naclip")
    assert all(close(features[name], expected[name]) for name in expected)
    assert (features["naclip"] - features["clearclip"]).abs().max() > 1e-3


# gem_torch permutes to (L, B, D), and its attention permutes back; a block of open_clip 3.3 wants (B, L, D). So gem_torch
# runs with this open_clip only where every block is one of its own, and it replaces six: hence a CLIP of six blocks.
@pytest.fixture(scope="module")
def six(registered):
    return noisy(load("open_clip:tiny6", random=True, device="cpu"))


@pytest.fixture(scope="module")
def gem_torch(six):
    gem = pytest.importorskip("gem", reason="gem_torch is a reference for this test only")
    return gem.gem_wrapper.GEMWrapper(copy.deepcopy(six.model), None, depth=7).model.visual


@torch.inference_mode()
def test_gem_is_gem_torchs(six, gem_torch):
    images = pictures(SQUARE)  # at another size its positions are resized in a way of its own
    theirs, original = gem_torch(images)
    assert close(dense(six, images, "gem"), normalize(theirs, dim=-1)[:, 1:])
    assert close(dense(six, images, "clip"), normalize(original, dim=-1)[:, 1:])


@torch.inference_mode()
def test_gem_is_gem_torchs_at_another_size_with_its_positions(six, gem_torch):
    images = pictures(OBLONG)
    theirs, _ = gem_torch(images)
    ours = dense(six, images, "gem resize_positions=antialias")
    assert close(ours, normalize(theirs, dim=-1)[:, 1:], 1e-5)
    assert not close(dense(six, images, "gem"), normalize(theirs, dim=-1)[:, 1:], 1e-3)


def test_gem_with_clearclip_is_the_attention_of_gem_torch(six, gem_torch):
    images, attention = pictures(OBLONG), gem_torch.transformer.resblocks[-1].res_block.attn
    y = six.blocks[-1].norm1(six.block_inputs(images, [6])[6].x)
    theirs = attention(y.transpose(0, 1))[0].transpose(0, 1)
    theirs = normalize(gem_torch.ln_post(theirs) @ gem_torch.proj, dim=-1)[:, 1:]
    assert close(dense(six, images, "gem+clearclip"), theirs)


# identities ----------------------------------------------------------------------------------------------------------


def test_alpha_1_and_beta_0_is_the_untouched_block(clip):
    images = pictures(OBLONG)
    turned = encoded(clip, images, alpha=1.0, beta=0.0)
    last = clip.last_tokens(images)
    assert close(turned, normalize(clip.project(last), dim=-1)[:, 1:])
    assert not close(encoded(clip, images, alpha=1.1), turned) and not close(encoded(clip, images, beta=0.1), turned)


@pytest.mark.parametrize("affinity", ["qk", "qq", "identity"])
@pytest.mark.parametrize("ffn", [True, False])
def test_beta_1_is_residual_off(clip, affinity, ffn):
    pruned = encoded(clip, pictures(OBLONG), affinity=affinity, beta=1.0, ffn=ffn)
    assert close(pruned, encoded(clip, pictures(OBLONG), affinity=affinity, residual=False, ffn=ffn))


def test_a_large_alpha_without_ffn_tends_to_residual_off(clip):
    images = pictures(OBLONG)
    off = encoded(clip, images, affinity="qq", residual=False, ffn=False)
    far = [(encoded(clip, images, affinity="qq", alpha=alpha, ffn=False) - off).abs().max() for alpha in (1, 1e2, 1e4)]
    assert far[0] > 10 * far[1] > 100 * far[2] and far[2] < 2e-3


@torch.inference_mode()
def test_sclip_is_twice_the_mean_of_qq_and_kk_less_one_bias(clip):
    images = pictures(OBLONG)
    block, x = clip.blocks[-1], clip.block_inputs(images, [12])[12].x
    y = block.norm1(x)
    q, k, v = block.qkv(y)
    qq, kk = (block.output((u @ u.mT / u.shape[-1] ** 0.5).softmax(-1) @ v, y) for u in (q, k))
    bias = block.attention.out_proj.bias
    assert bias.abs().max() > 0.1

    def end(x):
        return normalize(clip.project(clip.final_norm(x)), dim=-1)[:, 1:]

    ours = dense(clip, images, "sclip+clearclip")
    mean = encoded(clip, images, affinity="0.5*qq + 0.5*kk", residual=False, ffn=False)
    assert close(ours, end(2 * ((qq + kk) / 2) - bias)) and close(mean, end((qq + kk) / 2))
    assert not close(ours, mean)


@torch.inference_mode()
def test_the_last_block_without_a_bias_makes_sclip_the_mean(clip):
    other = copy.deepcopy(clip)
    other.blocks[-1].attention.out_proj.bias.zero_()
    mean = encoded(other, pictures(OBLONG), affinity="0.5*qq + 0.5*kk", residual=False, ffn=False)
    assert close(dense(other, pictures(OBLONG), "sclip+clearclip"), mean, 2e-4)  # LN's epsilon sees the length


@torch.inference_mode()
def test_gem_with_clearclip_sees_only_the_last_blocks_input(clip, monkeypatch):
    other, images = copy.deepcopy(clip), pictures(OBLONG)
    kept = clip.block_inputs(images, [12])
    for block in other.blocks[:-1]:
        for parameter in block.module.parameters():
            parameter.normal_()
    monkeypatch.setattr(other, "block_inputs", lambda images, layers: {layer: kept[layer] for layer in layers})
    assert torch.equal(dense(other, images, "gem+clearclip"), dense(clip, images, "gem+clearclip"))


@torch.inference_mode()
def test_attention_outputs_are_linear_in_the_affinity(clip):
    """Weights of a sum that add to 1 weigh the outputs themselves, bias and all."""
    images, tokens = pictures(OBLONG), {}
    patched = copy.copy(clip)
    patched.final_norm = lambda x: tokens.setdefault(len(tokens), x)
    for affinity in ("qq", "vv", "0.3*qq + 0.7*vv"):
        encoded(patched, images, affinity=affinity, residual=False, ffn=False)
    assert close(tokens[2], 0.3 * tokens[0] + 0.7 * tokens[1])


# knobs ---------------------------------------------------------------------------------------------------------------


@dataclass
class Last:
    """The last block's maps by Probe, and the end of the model."""

    model: object
    images: torch.Tensor

    def __post_init__(self):
        with torch.inference_mode(), Probe(self.model, keep=True) as probe:
            self.maps = probe.run(self.images)

    def __getitem__(self, feature):
        return self.maps[self.model.depth, feature]

    def end(self, x):
        with torch.inference_mode():
            features = self.model.project(self.model.final_norm(x))
        return normalize(features, dim=-1)[:, self.model.prefix_tokens :]

    def ffn(self, x):
        with torch.inference_mode():
            return self.model.blocks[-1].ffn(x)


@pytest.fixture(scope="module")
def last(clip):
    return Last(clip, pictures(OBLONG))


def test_ffn_off_keeps_the_sum(last):
    assert close(encoded(last.model, last.images, ffn=False), last.end(last["X_sum"]))


def test_residual_off_feeds_the_attention_to_the_ffn_with_its_own_skip(last):
    x = last["X_attn"]
    assert close(encoded(last.model, last.images, residual=False), last.end(x + last.ffn(x)))


@pytest.mark.parametrize("ffn", [True, False])
@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.1, 2.0, 100.0])
def test_alpha_weighs_the_attention(last, alpha, ffn):
    x = last["X_res"] + alpha * last["X_attn"]
    expected = last.end(x + last.ffn(x)) if ffn else last.end(x)
    assert close(encoded(last.model, last.images, alpha=alpha, ffn=ffn), expected)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.05, 0.3, 0.5, 1.0])
def test_beta_removes_the_channels_of_the_highest_mean_of_each_image(last, beta, unit):
    residual = last["X_res"].clone()
    for x in residual:
        means = [(x[1:, channel].mean().item(), channel) for channel in range(64)]
        for _, channel in sorted(means, reverse=True)[: round(64 * beta)]:
            x[:, channel] = 0
        for token in x:
            if unit and beta < 1:
                token /= token.norm()
    ours = encoded(last.model, last.images, beta=beta, normalize_residual=unit, ffn=False)
    assert close(ours, last.end(residual + last["X_attn"]))


def test_cls_has_no_say_in_which_channels_beta_removes(clip, monkeypatch):
    """With the identity a patch hears nothing of CLS, unless through the channels' means."""
    images, other = pictures(OBLONG), copy.copy(clip)
    with torch.inference_mode():
        seen = clip.block_inputs(images, [12])[12]
        loud = seen._replace(x=torch.cat([1000 * seen.x[:, :1], seen.x[:, 1:]], 1))
    monkeypatch.setattr(other, "block_inputs", lambda *args: {12: loud})
    knobs = {"affinity": "identity", "beta": 0.3, "ffn": False}
    assert close(encoded(other, images, **knobs), encoded(clip, images, **knobs))


@pytest.mark.parametrize(
    ("affinity", "weights"),
    [
        *((name, {name: 1}) for name in ("qk", "qq", "kk", "vv", "identity")),
        ("0.2*qk + 0.5*vv + 1.5 * identity", {"qk": 0.2, "vv": 0.5, "identity": 1.5}),
        ("-1*qq+kk", {"qq": -1, "kk": 1}),
    ],
)
@torch.inference_mode()
def test_any_affinity(clip, affinity, weights):
    images = pictures(OBLONG)

    def summed(head):
        ones = {"identity": torch.eye(len(head.q)).to(head.q)}
        ones |= {a + b: head.softmax(getattr(head, a), getattr(head, b)) for a, b in ("qk", "qq", "kk", "vv")}
        return sum(weight * ones[name] for name, weight in weights.items())

    visual = copy.deepcopy(clip.model.visual).double()
    x_attn = torch.stack([loop_stream(visual, image, "clearclip", summed) for image in images.double()])
    expected = normalize(visual.ln_post(x_attn) @ visual.proj, dim=-1)[:, 1:].float()
    assert close(encoded(clip, images, affinity=affinity, residual=False, ffn=False), expected)


@pytest.mark.parametrize("stream", [1, 2, 12])
def test_a_second_stream_of_plain_attention(last, stream):
    x = last.maps[13 - stream, "X_res"] + sum(0.5 * last.maps[layer, "X_attn"] for layer in range(13 - stream, 13))
    assert close(encoded(last.model, last.images, stream=stream, alpha=0.5, ffn=False), last.end(x))


def test_a_second_stream_of_an_earlier_layer(last):
    x = last.maps[4, "X_res"] + last.maps[4, "X_attn"] + last.maps[5, "X_attn"]
    assert close(encoded(last.model, last.images, stream=2, layer=5, ffn=False), last.end(x))


def test_cls_weight_adds_the_cls_tokens_own_feature(last):
    tokens = normalize(last.model.project(last.model.final_norm(last["X_sum"])), dim=-1)
    ours = encoded(last.model, last.images, cls_weight=0.7, ffn=False)
    assert close(ours, tokens[:, 1:] + 0.7 * tokens[:, :1])


@pytest.mark.parametrize("layer", [None, 1, 7, 12])
@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_of_any_layer_through_norm_and_projection(last, feature, layer):
    ours = dense(last.model, last.images, feature_recipe(feature, layer))
    assert close(ours, last.end(last.maps[layer or 12, feature]))


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_of_the_other_families(family, feature):
    seen = Last(family, pictures((48, 80)))
    for layer in (1, 3):
        ours = dense(family, seen.images, feature_recipe(feature, layer))
        assert close(ours, seen.end(seen.maps[layer, feature]))


def test_a_recipe_that_is_a_users_own(last):
    mine = Recipe("mine", affinity="0.5*qq + 0.5*vv", residual=False, ffn=False)
    features = DenseEncoder(last.model, [mine, "clearclip", mine.variant(alpha=-1.0)])(last.images)
    assert list(features) == ["mine", "clearclip", "mine alpha=-1.0"]
    other = Recipe("other", affinity="0.5*vv + 0.5*qq", residual=False, ffn=False)
    assert close(features["mine"], dense(last.model, last.images, other))
    assert not close(features["mine"], features["mine alpha=-1.0"])


# one trunk, many recipes ---------------------------------------------------------------------------------------------


def thirty():
    """Thirty recipes, without those that need a second model."""
    published = without_help()
    swept = [recipe("clip").variant(alpha=alpha, ffn=ffn) for alpha in (0.1, 0.5, 2.0, 10.0) for ffn in (True, False)]
    pruned = [recipe("clip").variant(affinity="kk", beta=beta) for beta in (0.05, 0.1, 0.3, 0.5, 1.0)]
    features = [feature_recipe(feature, layer) for feature in FEATURES for layer in (4, None)]
    return [*published, *swept, *pruned, *features][:30]


def test_many_recipes_at_once_equal_each_alone(clip):
    """Bit by bit: what is shared is the same tensor, computed by the same operations."""
    images = pictures(OBLONG)
    together = dense(clip, images, *thirty())
    assert len(together) == 30
    for one in thirty():
        assert torch.equal(together[one.name], dense(clip, images, one)), one.name


def test_a_batch_equals_each_image_alone(clip, dino):
    images, blind = pictures((48, 80), 3), untold()
    together = dense(clip, images, *blind, proxy=dino)
    for i, image in enumerate(images):
        alone = dense(clip, image[None], *blind, proxy=dino)
        assert all(close(together[name][i], alone[name][0], 1e-4) for name in blind)


def test_the_trunk_runs_once_and_the_last_block_never(clip):
    counts = {}

    def count(name):
        return lambda *args: counts.update({name: counts.get(name, 0) + 1})

    visual = clip.model.visual
    watched = {"patches": visual.conv1, **dict(enumerate(visual.transformer.resblocks, 1))}
    handles = [module.register_forward_hook(count(name)) for name, module in watched.items()]
    try:
        for chosen in (["clearclip"], thirty()):
            counts.clear()
            dense(clip, pictures(OBLONG), *chosen)
            assert counts == {"patches": 1} | dict.fromkeys(range(1, 12), 1)
    finally:
        for handle in handles:
            handle.remove()


def test_each_product_is_computed_once_for_all_recipes(clip, monkeypatch):
    seen = []
    for name, product in PRODUCTS.items():
        monkeypatch.setitem(
            PRODUCTS, name, lambda block, name=name, product=product: seen.append(name) or product(block)
        )
    DenseEncoder(clip, [recipe("sclip").variant(alpha=alpha, ffn=False) for alpha in range(1, 6)] + ["clearclip"])(
        pictures(OBLONG)
    )
    assert sorted(seen) == ["kk", "qq"]


def test_the_model_and_its_inputs_are_left_as_they_were(clip):
    images, state = pictures(OBLONG), copy.deepcopy(clip.model.state_dict())
    before = images.clone()
    dense(clip, images, *thirty())
    assert torch.equal(images, before)
    assert all(torch.equal(state[key], value) for key, value in clip.model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in clip.model.modules())


def test_bf16_is_close_and_float32_at_the_end(clip, dino):
    half, images, blind = copy.copy(clip), pictures((48, 80)), untold()
    half.precision = "bf16"
    ours, full = (dense(model, images, *blind, proxy=dino) for model in (half, clip))
    for name in blind:
        assert ours[name].dtype == torch.float32 and not torch.equal(ours[name], full[name])
        assert torch.cosine_similarity(ours[name], full[name], dim=-1).mean() > 0.995, name


# refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["cleraclip"], r"Closest: clearclip"),
        ([], r"at least one"),
        (["clip", "clip"], r"each name once"),
        (["proxyclip"], r"second model"),
        ([Recipe("deep", stream=13, ffn=False)], r"covers 13 blocks.*has 12"),
        ([Recipe("deep", stream=4, layer=3, ffn=False)], r"covers 4 blocks"),
        ([Recipe("high", layer=13)], r"1 … 12"),
        ([Recipe("low", layer=0)], r"1 … 12"),
    ],
)
def test_what_a_model_cannot_serve(clip, chosen, message):
    with pytest.raises(UserError, match=message):
        DenseEncoder(clip, chosen)


def test_a_model_without_text_space(dino):
    with pytest.raises(UserError, match="no projection"):
        DenseEncoder(dino, ["clearclip"])


def test_a_model_without_cls(siglip):
    with pytest.raises(UserError, match=r"segearth_ov needs a CLS token"):
        DenseEncoder(siglip, ["segearth_ov"])


@pytest.mark.parametrize("knobs", [{"residual": True}, {"ffn": True}, {"cls_weight": 0.1}, {"affinity": "proxy + qq"}])
def test_nothing_can_be_added_on_a_proxys_grid(clip, dino, knobs):
    with pytest.raises(UserError, match="another grid"):
        DenseEncoder(clip, [recipe("proxyclip").variant(**knobs)], dino)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"affinity": "qx"}, r"'qx' is not a product\. Closest: .*q"),
        ({"affinity": "qq + "}, r"'' is not a product"),
        ({"affinity": "half*qq"}, r"'half' is not a number"),
        ({"beta": 1.01}, r"between 0 and 1"),
        ({"beta": -0.1}, r"between 0 and 1"),
        ({"beta": float("nan")}, r"between 0 and 1"),
        ({"stream": 0, "ffn": False}, r"1 or more blocks"),
        ({"stream": 2}, r"no FFN"),
        ({"stream": 2, "ffn": False, "beta": 0.5}, r"no pruned residual"),
        ({"residual": False, "alpha": 0.0}, r"nothing is left"),
        ({"stream": 6, "ffn": False, "layer": 6, "normalize_residual": True}, r"no pruned residual"),
    ],
)
def test_a_recipe_that_makes_no_sense(knobs, message):
    with pytest.raises(UserError, match=message):
        Recipe("mine", **knobs)


def test_an_unknown_feature():
    with pytest.raises(UserError, match="X_res, X_attn, X_sum"):
        feature_recipe("X_out")


def test_sizes_that_are_no_multiple_of_the_patch(clip):
    with pytest.raises(UserError, match="8-pixel patches"):
        dense(clip, pictures((24, 41)), "clearclip")


# positions resized as a method's own code does it ----------------------------------------------------------------------


def bilinear(embedding, grid):
    """Half-pixel centers, borders repeated, one place after another."""
    side = round(len(embedding) ** 0.5)
    square = embedding.unflatten(0, (side, side))
    rows = []
    for y in range(grid[0]):
        for x in range(grid[1]):
            places = [max((i + 0.5) * side / n - 0.5, 0) for i, n in zip((y, x), grid, strict=True)]
            (top, down), (left, right) = ((int(p), p - int(p)) for p in places)
            corners = [
                ((1 - down if i == 0 else down) * (1 - right if j == 0 else right))
                * square[min(top + i, side - 1), min(left + j, side - 1)]
                for i in (0, 1)
                for j in (0, 1)
            ]
            rows.append(sum(corners))
    return torch.stack(rows)


@pytest.mark.parametrize("grid", [(3, 5), (6, 6), (2, 7)], ids=str)
def test_positions_as_gem_and_clip_surgery_resize_them(clip, grid):
    embedding = clip.vit.positional_embedding.detach()
    by_timm = resample_abs_pos_embed(embedding[None], list(grid))[0]
    assert close(position.interpolate(embedding, grid, way="antialias"), by_timm, 1e-6)
    expected = torch.cat([embedding[:1], bilinear(embedding[1:], grid)])
    assert close(position.interpolate(embedding, grid, way="bilinear"), expected, 1e-5)


@pytest.mark.parametrize(("name", "way"), [("gem", "antialias"), ("clip_surgery", "bilinear")])
def test_a_recipe_with_positions_of_its_own_has_a_trunk_of_its_own(clip, name, way):
    images, own = pictures(OBLONG), f"{name} resize_positions={way}"
    result = dense(clip, images, name, own, "clearclip")
    assert torch.equal(result[name], dense(clip, images, name))
    assert torch.equal(result["clearclip"], dense(clip, images, "clearclip"))
    assert not close(result[name], result[own], 1e-3)
    assert torch.equal(result[own], dense(clip.resized(way), images, name))
    square = pictures(SQUARE)  # the model's own grid, where nothing is resized
    assert torch.equal(dense(clip, square, own), dense(clip, square, name))


def test_positions_that_cannot_be_resized_otherwise(dino):
    with pytest.raises(UserError, match="own library"):
        dino.resized("bilinear")
    with pytest.raises(UserError, match="antialias or bilinear"):
        recipe("gem resize_positions=mine")
