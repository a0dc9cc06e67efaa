"""One view on a transformer block of any library: its three sites, its q, k, v, its output projection, its FFN.

An adapter is data plus three short functions. Nothing here changes a model: the views only read its modules.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearclip.errors import UserError

FEATURES = ("X_res", "X_attn", "X_sum")


class Site(NamedTuple):
    """Where a feature map can be read: a submodule of the block ("" is the block) and which end of it."""

    module: str
    end: str  # "input" or "output"


@dataclass(frozen=True)
class Block:
    """A pre-norm block of a vision transformer, X_sum = X_res + X_attn and X_out = X_sum + FFN(LN2(X_sum)).

    `sites` names the places of X_res, X_attn and X_sum (paper eq. 2). The identity X_res + X_attn = X_sum holds
    bit-exactly between the three.
    """

    module: Any  # the library's own block
    sites: ClassVar[dict[str, Site]] = {}

    def site(self, feature: str) -> tuple[nn.Module, str]:
        """The module to hook for a feature, and whether its "input" or its "output" is the map."""
        place = self.sites[feature]
        return self.module.get_submodule(place.module), place.end

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.attention.num_heads

    @property
    def attention(self) -> Any:
        """The library's attention module."""
        return self.module.attn

    def norm1(self, x: Tensor) -> Tensor:
        """LN1, what q, k and v are computed from."""
        raise NotImplementedError

    def qkv(self, y: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of y = LN1(X_res), each (B, heads, L, channels of a head); see paper eq. 1.

        Normalisation of q and k and rotary positions, where the model has them, are included.
        """
        raise NotImplementedError

    def output(self, values: Tensor, y: Tensor) -> Tensor:
        """X_attn from A·v (B, heads, L, C): output projection, gate and LayerScale, where the model has them."""
        raise NotImplementedError

    def ffn(self, x: Tensor) -> Tensor:
        """What the FFN adds to the stream x: FFN(LN2(x)), (B, L, D)."""
        raise NotImplementedError

    def forward(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """The library's own block, run as it is, (B, L, D) → (B, L, D)."""
        return self.module(x) if rope is None else self.module(x, rope=rope)


def _split(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    B, L, _ = qkv.shape
    q, k, v = qkv.reshape(B, L, 3, heads, -1).permute(2, 0, 3, 1, 4)  # each (B, heads, L, C)
    return q, k, v


def _join(values: Tensor) -> Tensor:
    return values.transpose(1, 2).flatten(2)  # (B, heads, L, C) → (B, L, heads · C)


@dataclass(frozen=True)
class TimmBlock(Block):
    """timm `Block` (DINO, DINOv2, MAE, SigLIP) and `EvaBlock` (DINOv3, EVA02, PE)."""

    # drop_path1 sits after LayerScale, so its output is what is really added to the stream
    sites: ClassVar = {
        "X_res": Site("", "input"),
        "X_attn": Site("drop_path1", "output"),
        "X_sum": Site("norm2", "input"),
    }

    def norm1(self, x: Tensor) -> Tensor:
        return self.module.norm1(x)

    def qkv(self, y: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        from timm.layers import Attention, AttentionRope, apply_rot_embed_cat
        from timm.models.eva import EvaAttention

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
            q, k, v = _split(F.linear(y, attn.qkv.weight, bias), attn.num_heads)
        else:
            q, k, v = _split(attn.qkv(y), attn.num_heads)
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

    def output(self, values: Tensor, y: Tensor) -> Tensor:
        attn = self.attention
        x = attn.norm(_join(values))
        if attn.gate is not None:
            x = x * attn.gate(y).sigmoid()
        return self._scale(attn.proj(x), 1)

    def ffn(self, x: Tensor) -> Tensor:
        return self._scale(self.module.mlp(self.module.norm2(x)), 2)

    def _scale(self, x: Tensor, which: int) -> Tensor:
        """LayerScale: a module in `Block`, a bare parameter in `EvaBlock`, absent in most."""
        layer_scale = getattr(self.module, f"ls{which}", None)
        gamma = getattr(self.module, f"gamma_{which}", None)
        if layer_scale is not None:
            return layer_scale(x)
        return x if gamma is None else gamma * x


@dataclass(frozen=True)
class OpenClipBlock(Block):
    """open_clip `ResidualAttentionBlock` (OpenAI, LAION, MetaCLIP, CoCa)."""

    sites: ClassVar = {"X_res": Site("", "input"), "X_attn": Site("ls_1", "output"), "X_sum": Site("ln_2", "input")}

    def norm1(self, x: Tensor) -> Tensor:
        return self.module.ln_1(x)

    def qkv(self, y: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        attn = self.attention
        return _split(F.linear(y, attn.in_proj_weight, attn.in_proj_bias), attn.num_heads)

    def output(self, values: Tensor, y: Tensor) -> Tensor:
        return self.module.ls_1(self.attention.out_proj(_join(values)))

    def ffn(self, x: Tensor) -> Tensor:
        return self.module.ls_2(self.module.mlp(self.module.ln_2(x)))


@dataclass(frozen=True)
class BlipBlock(Block):
    """transformers `BlipEncoderLayer`; its attention has no stage between projection and sum, so its output is X_attn."""

    sites: ClassVar = {
        "X_res": Site("", "input"),
        "X_attn": Site("self_attn", "output"),
        "X_sum": Site("layer_norm2", "input"),
    }

    @property
    def attention(self) -> Any:
        return self.module.self_attn

    def norm1(self, x: Tensor) -> Tensor:
        return self.module.layer_norm1(x)

    def qkv(self, y: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return _split(self.attention.qkv(y), self.attention.num_heads)

    def output(self, values: Tensor, y: Tensor) -> Tensor:
        return self.attention.projection(_join(values))

    def ffn(self, x: Tensor) -> Tensor:
        return self.module.mlp(self.module.layer_norm2(x))


VIEWS: dict[str, type[Block]] = {
    "timm.Block": TimmBlock,
    "timm.EvaBlock": TimmBlock,
    "open_clip.ResidualAttentionBlock": OpenClipBlock,
    "transformers.BlipEncoderLayer": BlipBlock,
}


def view(module: nn.Module) -> Block:
    """The view on one block; raises `UserError` for a block class whose sites are not known."""
    name = f"{type(module).__module__.split('.')[0]}.{type(module).__name__}"
    if name not in VIEWS:
        raise UserError(
            f"blocks of class {name} are not supported; supported are {', '.join(VIEWS)}. "
            "Post-norm and parallel blocks have no X_res + X_attn = X_sum to look at."
        )
    return VIEWS[name](module)
