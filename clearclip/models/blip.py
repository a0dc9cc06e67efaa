"""BLIP of transformers, for image-text retrieval. transformers is an extra, so only a BLIP model imports this file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from open_clip.transform import PreprocessCfg
from PIL import Image
from torch import Tensor, nn
from transformers import AutoTokenizer, BlipConfig, BlipForImageTextRetrieval
from transformers.models.blip.modeling_blip import BlipEncoderLayer

from clearclip.errors import UserError
from clearclip.models.backbone import Live, Plan
from clearclip.models.block import Block, Site, Writer, split_heads
from clearclip.models.hub import fetch
from clearclip.models.open_clip import evaluation_transform
from clearclip.models.position import FixedGridBackbone

SHAPES: dict[str, dict[str, int]] = {  # where the image towers differ from the library's default
    "Salesforce/blip-itm-base-coco": {},
    "Salesforce/blip-itm-large-coco": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}
NORM_EPS = 1e-6  # salesforce/BLIP, models/vit.py


def plan(name: str) -> Plan:
    """How transformers makes a BLIP.

    Raises:
        UserError: it is not one of the supported checkpoints.
    """
    if name not in SHAPES:
        raise UserError(f"transformers:{name} is not supported. Supported: {', '.join(SHAPES)}.")

    def build(pretrained: bool) -> nn.Module:
        if pretrained:
            return with_published_norms(BlipForImageTextRetrieval.from_pretrained(name))
        shape = {"image_size": 384} | SHAPES[name]
        text = {"encoder_hidden_size": shape.get("hidden_size", 768)}
        return with_published_norms(BlipForImageTextRetrieval(BlipConfig(vision_config=shape, text_config=text)))

    return Plan(build, BlipBackbone, preprocessing, name)


def with_published_norms(model: Any) -> Any:
    """A BLIP whose image tower's norms have the ε of its authors' code, in place of transformers' 1e-5."""
    for module in model.vision_model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = NORM_EPS
    return model


def preprocessing(model: Any) -> dict[str, Any]:
    """The processor of both checkpoints: squash to a square, bicubic, OpenAI's mean and standard deviation."""
    return asdict(PreprocessCfg(size=model.config.vision_config.image_size, resize_mode="squash"))


def wraps(module: object) -> Live | None:
    """What transformers knows about a live BLIP for image-text retrieval, None for anything else."""
    if not isinstance(module, BlipForImageTextRetrieval):
        return None
    own = preprocessing(module)

    def complete(given: Mapping[str, Any]) -> dict[str, Any]:
        return own | dict(given)

    return Live(BlipBackbone, module.config._name_or_path or type(module).__name__, own, complete)


@dataclass(repr=False)
class BlipBackbone(FixedGridBackbone):
    """The image tower of a transformers BLIP image-text retrieval model."""

    has_text: ClassVar[bool] = True

    @property
    def vit(self) -> Any:
        return self.model.vision_model

    @property
    def prefix_tokens(self) -> int:
        return 1

    @property
    def patch_size(self) -> int:
        return self.vit.config.patch_size

    @property
    def image_size(self) -> int:
        return self.vit.config.image_size

    @property
    def width(self) -> int:
        return self.vit.config.hidden_size

    @property
    def has_projection(self) -> bool:
        return True

    def _blocks(self) -> Sequence[Block]:
        return [BlipBlock(module) for module in self.vit.encoder.layers]

    def _run(self, images: Tensor) -> object:
        return self._run_on_grid(images, "embeddings.position_embedding")

    @property
    def final_norms(self) -> Sequence[nn.Module]:
        return [self.vit.post_layernorm]

    def project(self, x: Tensor) -> Tensor:
        return self.model.vision_proj(x)

    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        return evaluation_transform(self.preprocessing, image_size)

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's own tokenizer, which lives on the hub."""
        return fetch(lambda: AutoTokenizer.from_pretrained(self.library_name), f"the tokenizer of {self.library_name}")

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        states = self.model.text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return self.model.text_proj(states.last_hidden_state[:, 0])


@dataclass(frozen=True)
class BlipBlock(Block):
    """transformers `BlipEncoderLayer`; its attention has no stage between projection and sum, so its output is X_attn."""

    classes: ClassVar = (BlipEncoderLayer,)
    sites: ClassVar = {
        "X_res": Site("", "input"),
        "X_attn": Site("self_attn", "output"),
        "X_sum": Site("layer_norm2", "input"),
    }

    @property
    def attention(self) -> Any:
        return self.module.self_attn

    @property
    def attention_writer(self) -> Writer:
        return Writer(self.attention.projection)

    @property
    def ffn_writer(self) -> Writer:
        return Writer(self.module.mlp.fc2)

    def norm1(self, x: Tensor) -> Tensor:
        return self.module.layer_norm1(x)

    def qkv(self, y: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return split_heads(self.attention.qkv(y), self.attention.num_heads)

    def ffn(self, x: Tensor) -> Tensor:
        return self.module.mlp(self.module.layer_norm2(x))
