"""A model family in one file, as somebody would add it: a vision transformer of one's own, with two blocks."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torchvision.transforms import Compose, Resize, ToTensor

from clearclip.errors import UserError
from clearclip.models.backbone import Backbone, Plan
from clearclip.models.block import Block, Site, Writer, join_heads, split_heads

MEAN_AND_STD = {"mean": (0.5, 0.25, 0.125), "std": (0.5, 1.0, 2.0)}


def plan(name):
    if name != "two":
        raise UserError(f"the toy library has no model {name!r}. It has: two.")
    return Plan(lambda trained: Toy(), ToyBackbone, lambda model: MEAN_AND_STD, "two, by hand", shipped=True)


class ToyAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads, self.fused, self.proj = 2, nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, y):
        q, k, v = split_heads(self.fused(y), 2)
        return self.proj(join_heads((q @ k.mT / 2).softmax(-1) @ v))


class ToyLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.attn, self.after = nn.LayerNorm(8), ToyAttention(), nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x):
        x = x + self.attn(self.before(x))
        return x + self.mlp(self.after(x))


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layers, self.norm = (
            nn.Conv2d(3, 8, 4, 4),
            nn.ModuleList([ToyLayer(), ToyLayer()]),
            nn.LayerNorm(8),
        )

    def forward(self, images):
        x = self.embed(images).flatten(2).mT  # (B, L, D)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


@dataclass(frozen=True)
class ToyBlock(Block):
    classes: ClassVar = (ToyLayer,)
    sites: ClassVar = {"X_res": Site("", "input"), "X_attn": Site("attn", "output"), "X_sum": Site("after", "input")}

    @property
    def attention_writer(self):
        return Writer(self.attention.proj)

    @property
    def ffn_writer(self):
        return Writer(self.module.mlp[2])

    def norm1(self, x):
        return self.module.before(x)

    def qkv(self, y, rope=None):
        return split_heads(self.attention.fused(y), self.heads)

    def ffn(self, x):
        return self.module.mlp(self.module.after(x))


@dataclass
class ToyBackbone(Backbone):
    has_text: ClassVar[bool] = True
    prefix_tokens: ClassVar = 0
    patch_size: ClassVar = 4
    image_size: ClassVar = 16
    width: ClassVar = 8

    @property
    def vit(self) -> Any:
        return self.model

    def _blocks(self):
        return [ToyBlock(layer) for layer in self.model.layers]

    def _run(self, images):
        return self.model(images)

    @property
    def final_norms(self):
        return [self.model.norm]

    def transform(self, image_size=None):
        size = image_size or self.image_size
        return Compose([Resize((size, size)), ToTensor(), self.normalize])

    def encode_texts(self, texts):
        return torch.tensor([[float(len(text)), 1.0] for text in texts])
