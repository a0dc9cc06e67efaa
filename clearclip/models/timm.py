"""Vision transformers of timm: DINO, DINOv2, DINOv3, MAE and what else has its blocks."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, ClassVar

import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.layers import Attention, AttentionRope, Format, apply_rot_embed_cat
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block as VitBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.func import functional_call

from clearclip.errors import UserError, closest
from clearclip.models.backbone import Backbone, Live, Plan
from clearclip.models.block import Block, Site, Writer, join_heads, split_heads
from clearclip.models.position import interpolate


def plan(name: str) -> Plan:
    """How timm makes `arch.tag`.

    Raises:
        UserError: timm has no such architecture, or no such weights of it.
    """
    if not timm.is_model(name):
        raise UserError(
            f"timm has no model {name!r}. Closest: {closest(name, timm.list_models('*vit*', pretrained=True))}."
        )
    arch, _, tag = name.partition(".")
    tags = timm.list_pretrained(f"{arch}.*")
    if tag and name not in tags:
        raise UserError(f"timm has no weights {tag!r} for {arch}. It has: {', '.join(tags) or 'none'}.")

    def build(pretrained: bool) -> nn.Module:
        try:
            return timm.create_model(name, pretrained=pretrained, dynamic_img_size=True)
        except TypeError as error:  # the architecture knows no such option, so it is not a plain vision transformer
            raise UserError(f"timm:{name} is not a vision transformer with a dynamic image size: {error}") from error

    def preprocessing(model: Any) -> dict[str, Any]:
        return resolve_data_config(pretrained_cfg=model.pretrained_cfg)

    def check() -> None:
        twin = name.replace("_clip_", "_clip_quickgelu_")
        if "quickgelu" not in name and twin != name and twin in timm.list_pretrained("*quickgelu*"):
            raise UserError(
                f"the weights {name} were trained with QuickGELU and this architecture has GELU, which would give "
                f"other statistics. Use timm:{twin}."
            )

    other = (
        arch.replace("_clip_quickgelu_", "_clip_")
        if "quickgelu" in arch
        else arch.replace("_clip_", "_clip_quickgelu_")
    )
    twin = f"timm:{other}" if other != arch and timm.is_model(other) else None
    return Plan(build, TimmBackbone, preprocessing, name, check, convert=convert, twin=twin)


def convert(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's own converter of other layouts: Meta's DINOv2 and DINOv3, MAE, OpenAI's CLIP, open_clip's trunks.

    Raises:
        UserError: the converter would drop biases that are not zero.
    """
    own = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if own is None:
        return state
    with redirect_stdout(
        io.StringIO()
    ):  # where it looks for a bias that the model may not have, it prints that it has none
        converted = own(dict(state), model)
    for key, bias in state.items():  # it drops DINOv3's, which are zero in most of its models
        if key.endswith("qkv.bias") and not {key, key.replace("qkv.bias", "q_bias")} & converted.keys() and bias.any():
            raise UserError(
                f"it has biases of q, k and v ({key}), and this architecture has none: take the one of the same name with _qkvb, "
                "such as timm:vit_small_patch16_dinov3_qkvb."
            )
    return converted


def wraps(module: object) -> Live | None:
    """What timm knows about a live vision transformer of its own, None for anything else."""
    if not isinstance(module, (VisionTransformer, Eva)):
        return None
    config = getattr(module, "pretrained_cfg", None) or {}

    def complete(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
        resolved = resolve_data_config(pretrained_cfg=dict(preprocessing))
        return resolved | {"input_size": (3, *module.patch_embed.img_size)}  # it may have been made for another size

    name = config.get("architecture") or type(module).__name__
    return Live(TimmBackbone, name, config if "mean" in config else None, complete)


@contextmanager
def any_image_size(vit: Any, image_size: tuple[int, int]) -> Iterator[None]:
    """Inside, a transformer made for one image size takes another, as if it had been made with `dynamic_img_size`.

    Raises:
        UserError: its rotary positions are fixed, too.
    """
    patches = vit.patch_embed
    if getattr(vit, "dynamic_img_size", True) or image_size == tuple(patches.img_size):
        yield
        return
    if getattr(vit, "rope", None) is not None:
        raise UserError(
            f"this {type(vit).__name__} was made for images of {patches.img_size[0]} pixels only: measure it at that size, "
            "or make it with timm.create_model(…, dynamic_img_size=True)."
        )
    fixed = vit.dynamic_img_size, patches.strict_img_size, patches.flatten, patches.output_fmt
    vit.dynamic_img_size, patches.strict_img_size, patches.flatten, patches.output_fmt = True, False, False, Format.NHWC
    try:
        yield
    finally:
        vit.dynamic_img_size, patches.strict_img_size, patches.flatten, patches.output_fmt = fixed


@contextmanager
def made_for_grid(vit: Any, grid: tuple[int, int]) -> Iterator[None]:
    """Inside, a transformer takes its position embedding for one of this grid, and so does not resize it."""
    own, vit.patch_embed.grid_size = vit.patch_embed.grid_size, grid
    try:
        yield
    finally:
        vit.patch_embed.grid_size = own


def is_dino(vit: Any) -> bool:
    """Whether a transformer is a DINO or DINOv2, whose authors have published how they resize positions.

    >>> is_dino(timm.create_model("vit_small_patch16_224.dino")), is_dino(timm.create_model("test_vit"))
    (True, False)
    """
    config = getattr(vit, "pretrained_cfg", None) or {}
    architecture, tag = config.get("architecture") or "", config.get("tag") or ""
    return "_dinov2" in architecture or tag == "dino"


@dataclass(repr=False)
class TimmBackbone(Backbone):
    """A timm vision transformer, standing alone (`vit` is the model)."""

    @property
    def resizing(self) -> str:
        return self.positions if is_dino(self.vit) else "timm"

    @property
    def vit(self) -> Any:
        return self.model

    @property
    def prefix_tokens(self) -> int:
        return self.vit.num_prefix_tokens

    @property
    def patch_size(self) -> int:
        return self.vit.patch_embed.patch_size[0]

    @property
    def image_size(self) -> int:
        return self.vit.patch_embed.img_size[0]

    @property
    def width(self) -> int:
        return self.vit.embed_dim

    def _blocks(self) -> Sequence[Block]:
        if not hasattr(self.vit, "blocks"):
            raise UserError(f"{self.name} ({type(self.vit).__name__}) is not a vision transformer with `blocks`.")
        return [TimmBlock(module) for module in self.vit.blocks]

    def _run(self, images: Tensor) -> object:
        size = (images.shape[-2], images.shape[-1])
        grid = self.grid(size)
        with any_image_size(self.vit, size):
            # with registers, DINOv2's authors resize by size and with antialiasing, which is timm's way
            if self.resizing == "timm" or self.vit.reg_token is not None or grid == self.grid():
                return self.vit.forward_features(images)
            resized = interpolate(self.vit.pos_embed.detach()[0], grid, self.prefix_tokens)[None]  # (1, L, D)
            with made_for_grid(self.vit, grid):
                return functional_call(self.vit, {"pos_embed": resized}, (images,))

    @property
    def final_norms(self) -> Sequence[nn.Module]:
        return [self.vit.norm]

    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        config = dict(self.preprocessing)
        if image_size is not None:  # the whole short side is seen, as in the segmentation protocol
            config |= {"input_size": (3, image_size, image_size), "crop_pct": 1.0}
        return create_transform(**config, is_training=False)


@dataclass(frozen=True)
class TimmBlock(Block):
    """timm `Block` (DINO, DINOv2, MAE, SigLIP) and `EvaBlock` (DINOv3, EVA02, PE)."""

    classes: ClassVar = (VitBlock, EvaBlock)
    # drop_path1 sits after LayerScale, so its output is what is really added to the stream
    sites: ClassVar = {
        "X_res": Site("", "input"),
        "X_attn": Site("drop_path1", "output"),
        "X_sum": Site("norm2", "input"),
    }

    @property
    def attention_writer(self) -> Writer:
        return Writer(self.attention.proj, self._gamma(1))

    @property
    def ffn_writer(self) -> Writer:
        return Writer(self.module.mlp.fc2, self._gamma(2))

    def norm1(self, x: Tensor) -> Tensor:
        return self.module.norm1(x)

    def qkv(self, y: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        attn = self.attention
        if not isinstance(attn, (Attention, AttentionRope, EvaAttention)):
            raise UserError(
                f"q, k and v cannot be read from {type(attn).__name__}; Attention, AttentionRope and "
                "EvaAttention of timm are supported. The three feature maps can still be probed."
            )
        if attn.qkv is None:
            B, L, _ = y.shape
            q, k, v = (
                projection(y).reshape(B, L, -1, attn.head_dim).transpose(1, 2)
                for projection in (attn.q_proj, attn.k_proj, attn.v_proj)
            )
        elif getattr(attn, "q_bias", None) is not None:  # EVA: k has no bias
            bias = torch.cat((attn.q_bias, attn.k_bias, attn.v_bias))
            q, k, v = split_heads(F.linear(y, attn.qkv.weight, bias), attn.num_heads)
        else:
            q, k, v = split_heads(attn.qkv(y), attn.num_heads)
        q, k = attn.q_norm(q), attn.k_norm(k)
        if rope is not None:  # prefix tokens have no position
            p, half = attn.num_prefix_tokens, getattr(attn, "rotate_half", False)
            q, k = (
                torch.cat([t[:, :, :p], apply_rot_embed_cat(t[:, :, p:], rope, half=half)], dim=2).type_as(v)
                for t in (q, k)
            )
        groups = getattr(attn, "num_kv_groups", 1)
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        return q, k, v

    def gathered(self, values: Tensor, y: Tensor) -> Tensor:
        attn = self.attention
        x = attn.norm(join_heads(values))
        return x if attn.gate is None else x * attn.gate(y).sigmoid()

    def ffn(self, x: Tensor) -> Tensor:
        return self.ffn_writer.scaled(self.module.mlp(self.module.norm2(x)))

    def _gamma(self, which: int) -> Tensor | None:
        """LayerScale: a module in `Block`, a bare parameter in `EvaBlock`, absent in most."""
        layer_scale = getattr(self.module, f"ls{which}", None)
        return getattr(self.module, f"gamma_{which}", getattr(layer_scale, "gamma", None))
