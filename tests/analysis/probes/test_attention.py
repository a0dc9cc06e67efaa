import pytest
import torch
import torch.nn.functional as F

import clearclip
from analysis.probes.attention import attention_maps
from clearclip.errors import UserError

MODELS = {"dino_vits16": 32, "dinov3_vits16": 32, "clip_vitb32": 64}


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    torch.manual_seed(0)
    return clearclip.load(request.param, random=True), torch.randn(2, 3, MODELS[request.param], MODELS[request.param])


def test_qk_is_what_fused_attention_uses(case, monkeypatch):
    model, images = case
    used = []
    fused = F.scaled_dot_product_attention

    def spy(q, k, v, *args, **kwargs):
        used.append(torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, -1))
        return fused(q, k, v, *args, **kwargs)

    with torch.inference_mode():
        maps = attention_maps(model, images, [1, 12])
        if "clip" in model.name:  # open_clip's attention is a fused kernel of its own: ask it for its weights
            block = model.blocks[-1].module
            y = block.ln_1(model.block_inputs(images, [12])[12].x)
            used = [None] * 11 + [block.attn(y, y, y, need_weights=True, average_attn_weights=False)[1]]
        else:
            monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
            model(images)
            torch.testing.assert_close(maps[1, "qk"], used[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps[12, "qk"], used[11], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["qk", "qq", "kk", "vv"])
def test_every_product_against_a_loop(case, name):
    model, images = case
    with torch.inference_mode():
        got = attention_maps(model, images, [5], heads=[3, 1], affinities=[name])[5, name]
        seen = model.block_inputs(images, [5])[5]
        parts = dict(zip("qkv", model.blocks[4].qkv(model.blocks[4].norm1(seen.x), seen.rope), strict=True))
        for image in range(2):
            for i, head in enumerate([2, 0]):
                a, b = (parts[letter][image, head] for letter in name)
                scores = torch.stack([torch.stack([(x * y).sum() for y in b]) for x in a]) / a.shape[-1] ** 0.5
                torch.testing.assert_close(
                    got[image, i], scores.exp() / scores.exp().sum(-1, keepdim=True), rtol=1e-4, atol=1e-6
                )


def test_wrong_requests(case):
    model, images = case
    with pytest.raises(UserError, match="heads 1 …"):
        attention_maps(model, images, heads=[0])
    with pytest.raises(UserError, match="qk, qq, kk, vv"):
        attention_maps(model, images, affinities=["qv"])
