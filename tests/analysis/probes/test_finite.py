"""Every path from features to a result refuses values that are not finite, and says where they arose and what to do."""

import numpy as np
import pytest
import torch

import clearclip
from analysis import collect
from analysis.probes.attention import attention_maps, token_attention
from analysis.probes.feature_maps import feature_maps
from analysis.probes.images import pictures
from analysis.probes.label_maps import label_maps
from analysis.probes.similarity import similarity_maps
from analysis.prototypes.run import measure
from clearclip.datasets import Sample, load
from clearclip.errors import UserError

SCENES = load("scenes", count=2)
NAME = SCENES[0].name
TEXT = {"prompts": "photo"}


def file(folder):
    SCENES[0].image.save(folder / "a.png")
    return str(folder / "a.png")


def segmented(model, folder):
    return clearclip.Segmenter(model, "apple, grass", "clearclip", **TEXT)(file(folder))


def mapped(model, folder):
    return label_maps(model, [Sample(SCENES[0].image, np.zeros((0, 0)), "a.png")], "apple, grass", ["clip"], **TEXT)


# what turns features into a result → how it is called, and where it says that the values stand
PATHS = {
    "segment": (segmented, "picture 0: .*recipe clearclip"),
    "maps": (mapped, r"a\.png: .*recipe clip"),
    "evaluate": (
        lambda model, _: clearclip.evaluate(model, SCENES, ["clip"], progress=False, **TEXT),
        f"{NAME}: .*recipe clip",
    ),
    "statistics": (
        lambda model, folder: collect(model, file(folder), ["entropy"], progress=False),
        r"a\.png: .*X_attn of layer 5",
    ),
    "attention": (lambda model, folder: token_attention(model, file(folder), [5, 6]), r"a\.png: .*qk of layer 6"),
    "attention of tensors": (
        lambda model, _: attention_maps(model, torch.zeros(2, 3, 64, 64), [5, 6], affinities=["qk", "vv"]),
        "picture 0: .*qk of layer 6",
    ),
    "feature maps": (lambda model, folder: feature_maps(model, file(folder), [4, 5]), r"a\.png: .*X_attn of layer 5"),
    "similarity": (
        lambda model, folder: similarity_maps(model, pictures([file(folder)]), (0.5, 0.5), [4, 5]),
        r"a\.png: .*X_attn of layer 5",
    ),
    "prototypes": (
        lambda model, _: measure(model, SCENES, layers=[4, 5], progress=False),
        f"{NAME}: .*X_attn of layer 5",
    ),
}


def spoiled(value, precision="fp32"):
    """clip_tiny with one value of layer 5's attention output replaced."""
    model = clearclip.load("clip_tiny", device="cpu", precision=precision)
    model.blocks[4].module.attn.out_proj.bias[7] = value
    return model


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(path, value, tmp_path):
    call, where = PATHS[path]
    with pytest.raises(UserError, match=rf"{where} of clip_tiny\. Its weights .* take another checkpoint"):
        call(spoiled(value), tmp_path)


@pytest.mark.parametrize("path", PATHS)
def test_weights_that_overflow_in_half_precision_only(path, tmp_path):
    """A finite bias beyond 65,504: fine in fp32 and bf16, infinite in fp16, where the message names the way out."""
    call, _ = PATHS[path]
    call(spoiled(1e5), tmp_path)
    with pytest.raises(UserError, match=r"non-finite values in .* of clip_tiny\..* use bf16 or fp32"):
        call(spoiled(1e5, "fp16"), tmp_path)


def test_texts_that_are_not_finite_are_named_and_never_kept(tmp_path):
    model = clearclip.load("clip_tiny", device="cpu")
    good = model.model.text_projection.clone()
    model.model.text_projection[0, 0] = float("nan")
    with pytest.raises(UserError, match="class name 'apple': non-finite values in the text embedding of clip_tiny"):
        clearclip.Segmenter(model, "apple, grass", cache=tmp_path, **TEXT)
    assert not list(tmp_path.iterdir())
    model.model.text_projection.copy_(good)
    clearclip.Segmenter(model, "apple, grass", cache=tmp_path, **TEXT)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_picture_that_is_wrong_is_named_among_several():
    """Only one picture's windows overflow: the name is its own, not that of the batch."""
    model = clearclip.load("clip_tiny", device="cpu")
    segmenter = clearclip.Segmenter(model, "apple, grass", **TEXT)
    encode = segmenter.encoder.encode

    def second_is_wrong(crops, *given):
        dense = encode(crops, *given)
        dense.features["clearclip"][-1, 0, 0] = torch.nan
        return dense

    segmenter.encoder.encode = second_is_wrong
    scene = SCENES[0].image
    with pytest.raises(UserError, match=r"b\.png: "):
        segmenter.each([scene, scene], ["a.png", "b.png"])
