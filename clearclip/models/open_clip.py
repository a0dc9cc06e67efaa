"""CLIPs of open_clip: its own image towers (OpenAI, LAION, MetaCLIP) and those with a trunk of timm (SigLIP2, EVA02)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import open_clip
import timm
import torch.nn.functional as F
from open_clip import CLIP, CoCa, CustomTextCLIP
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import ResidualAttentionBlock
from PIL import Image
from torch import Tensor, nn

from clearclip.errors import UserError, closest
from clearclip.models.backbone import Backbone, Live, Plan
from clearclip.models.block import Block, Site, Writer, split_heads
from clearclip.models.hub import fetch, quiet
from clearclip.models.position import FixedGridBackbone
from clearclip.models.timm import TimmBackbone
from clearclip.models.weights import LiveWeights


def plan(name: str) -> Plan:
    """How open_clip makes `arch/tag`.

    Raises:
        UserError: open_clip has no such architecture, or no such weights of it.
    """
    arch, _, tag = name.partition("/")
    config = open_clip.get_model_config(arch)
    if config is None:
        raise UserError(f"open_clip has no model {arch!r}. Closest: {closest(arch, open_clip.list_models())}.")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag and tag not in tags:
        raise UserError(f"open_clip has no weights {tag!r} for {arch}. It has: {', '.join(tags) or 'none'}.")
    weights = open_clip.get_pretrained_cfg(arch, tag) if tag else {}
    trunk = config["vision_cfg"].get("timm_model_name")

    def build(pretrained: bool) -> nn.Module:
        if pretrained and not tag:
            raise UserError(
                f"open_clip:{arch} names no weights: write open_clip:{arch}/<tag>, one of {', '.join(tags)}."
            )
        with quiet(not pretrained):  # it warns of random weights, which here are asked for or replaced at once
            model = open_clip.create_model(arch, pretrained=tag if pretrained else None, weights_only=True)
        if trunk is not None:
            _free_image_size(model, trunk)
        return model

    def preprocessing(model: Any) -> dict[str, Any]:
        default = asdict(PreprocessCfg(size=config["vision_cfg"].get("image_size", 224)))
        return default | {
            key: weights[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in weights
        }

    def check() -> None:
        if weights.get("quick_gelu", False) and not config.get("quick_gelu", False) and trunk is None:
            raise UserError(
                f"the weights {arch}/{tag} were trained with QuickGELU and {arch} has GELU, which would give other "
                f"statistics with only a warning. Use open_clip:{arch}-quickgelu/{tag}."
            )
        if arch.endswith("-quickgelu") and tag and not weights.get("quick_gelu", False):
            raise UserError(
                f"the weights {arch}/{tag} were trained with GELU and {arch} has QuickGELU. "
                f"Use open_clip:{arch.removesuffix('-quickgelu')}/{tag}."
            )

    other = arch.removesuffix("-quickgelu") if arch.endswith("-quickgelu") else f"{arch}-quickgelu"
    twin = f"open_clip:{other}" if other in open_clip.list_models() else None
    view = OpenClipBackbone if trunk is None else OpenClipTimmBackbone
    return Plan(build, view, preprocessing, name, check, convert=convert, twin=twin)


def convert(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's own converters, and timm's image tower alone as a trunk."""
    if "patch_embed.proj.weight" in state:
        state = {f"visual.trunk.{key}": tensor for key, tensor in state.items()}
    state = convert_state_dict(model, state)
    return convert_to_custom_text_state_dict(state) if hasattr(model, "text") else state


def wraps(module: object) -> Live | None:
    """What open_clip knows about a live CLIP of its own, None for anything else."""
    if not isinstance(module, (CLIP, CustomTextCLIP, CoCa)):
        return None
    visual: Any = module.visual

    def complete(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
        return asdict(PreprocessCfg(**{"size": visual.image_size} | dict(preprocessing)))

    view = OpenClipTimmBackbone if hasattr(visual, "trunk") else OpenClipBackbone
    return Live(view, type(module).__name__, getattr(visual, "preprocess_cfg", None), complete)


def _free_image_size(model: Any, trunk: str) -> None:
    """Give an open_clip model's timm trunk timm's own `dynamic_img_size`, which open_clip does not pass on."""
    old = model.visual.trunk
    if not hasattr(old, "blocks"):
        raise UserError(f"the image tower {trunk} ({type(old).__name__}) is not a vision transformer with `blocks`.")
    new = timm.create_model(trunk, num_classes=old.num_classes, global_pool=old.global_pool, dynamic_img_size=True)
    new.load_state_dict(old.state_dict())
    model.visual.trunk = new


def evaluation_transform(config: dict[str, Any], image_size: int | None) -> Callable[[Image.Image], Tensor]:
    """open_clip's own evaluation transform of a preprocessing configuration, at its own or another size."""
    size = {} if image_size is None else {"size": image_size}
    return image_transform_v2(PreprocessCfg(**config | size), is_train=False)


@dataclass(repr=False)
class OpenClipModel(Backbone):
    """What all models of open_clip share, whatever their image tower: preprocessing and text tower."""

    has_text: ClassVar[bool] = True

    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        return evaluation_transform(self.preprocessing, image_size)

    @cached_property
    def tokenizer(self) -> Any:
        """The architecture's own tokenizer; some live on the hub and are looked up there like weights."""
        arch = self.library_name.partition("/")[0]
        if isinstance(self.weights, LiveWeights):  # which does not say of what architecture it is
            words = getattr(self.model, "text", self.model).vocab_size
            if words == open_clip.SimpleTokenizer().vocab_size:
                return open_clip.SimpleTokenizer()
            raise UserError(
                f"{self.name} has a vocabulary of {words} tokens, so its tokenizer is not known: give it, as in "
                'clearclip.wrap(module, tokenizer=open_clip.get_tokenizer("ViT-B-16-SigLIP2")).'
            )
        if "hf_tokenizer_name" not in open_clip.get_model_config(arch)["text_cfg"]:
            return open_clip.SimpleTokenizer()
        return fetch(lambda: open_clip.get_tokenizer(arch), f"the tokenizer of {arch}")

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        if self.weights.without_text:
            raise UserError(
                f"{self.weights.name} holds an image tower alone, so {self.name} cannot name classes: take the whole model, or "
                "text embeddings from a file (--text-embeddings)."
            )
        tokens = self.tokenizer(list(texts), context_length=self.model.context_length).to(self.device)  # (N, T)
        with self.autocast():
            return self.model.encode_text(tokens)


@dataclass(repr=False)
class OpenClipBackbone(OpenClipModel, FixedGridBackbone):
    """The image tower of an open_clip model in open_clip's own code (OpenAI, LAION, MetaCLIP)."""

    @property
    def vit(self) -> Any:
        return self.model.visual

    @property
    def prefix_tokens(self) -> int:
        return 1

    @property
    def patch_size(self) -> int:
        return self.vit.patch_size[0]

    @property
    def image_size(self) -> int:
        return self.vit.image_size[0]

    @property
    def width(self) -> int:
        return self.vit.conv1.out_channels

    @property
    def has_projection(self) -> bool:
        return self.vit.proj is not None and self.vit.attn_pool is None

    def _blocks(self) -> Sequence[Block]:
        if not hasattr(self.vit, "transformer"):
            raise UserError(f"{self.name} ({type(self.vit).__name__}) is not a vision transformer.")
        return [OpenClipBlock(module) for module in self.vit.transformer.resblocks]

    def _run(self, images: Tensor) -> object:
        return self._run_on_grid(images, "positional_embedding")

    @property
    def final_norms(self) -> Sequence[nn.Module]:
        return [self.vit.ln_post]

    def project(self, x: Tensor) -> Tensor:
        return x @ self.vit.proj if self.has_projection else super().project(x)


@dataclass(repr=False)
class OpenClipTimmBackbone(OpenClipModel, TimmBackbone):
    """The image tower of an open_clip model whose trunk is timm's (SigLIP2, EVA02)."""

    @property
    def vit(self) -> Any:
        return self.model.visual.trunk

    @property
    def image_size(self) -> int:
        return self.model.visual.image_size[0]

    @property
    def has_projection(self) -> bool:
        return True

    @property
    def final_norms(self) -> Sequence[nn.Module]:
        return [self.vit.norm, self.vit.fc_norm]

    def project(self, x: Tensor) -> Tensor:
        if self.vit.attn_pool is not None:  # SigLIP: each patch is pooled as if the picture had no other
            x = self.vit.attn_pool(x.flatten(0, 1)[:, None]).unflatten(0, x.shape[:2])
        return self.model.visual.head(self.vit.head(x))

    def project_linearly(self, x: Tensor) -> Tensor:
        pool = self.vit.attn_pool
        if pool is None:
            return self.project(x)
        values = pool.kv(x).chunk(2, dim=-1)[1]  # a patch alone listens to itself: the pool is its value, projected
        return self.model.visual.head(self.vit.head(pool.proj(values)))


@dataclass(frozen=True)
class OpenClipBlock(Block):
    """open_clip `ResidualAttentionBlock` (OpenAI, LAION, MetaCLIP, CoCa)."""

    classes: ClassVar = (ResidualAttentionBlock,)
    sites: ClassVar = {"X_res": Site("", "input"), "X_attn": Site("ls_1", "output"), "X_sum": Site("ln_2", "input")}

    @property
    def attention_writer(self) -> Writer:
        return Writer(self.attention.out_proj, getattr(self.module.ls_1, "gamma", None))

    @property
    def ffn_writer(self) -> Writer:
        return Writer(self.module.mlp.c_proj, getattr(self.module.ls_2, "gamma", None))

    def norm1(self, x: Tensor) -> Tensor:
        return self.module.ln_1(x)

    def qkv(self, y: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        attn = self.attention
        return split_heads(F.linear(y, attn.in_proj_weight, attn.in_proj_bias), attn.num_heads)

    def ffn(self, x: Tensor) -> Tensor:
        return self.ffn_writer.scaled(self.module.mlp(self.module.ln_2(x)))
