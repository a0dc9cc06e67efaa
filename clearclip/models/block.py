"""One view on a transformer block of any library: its three sites, its q, k, v, what heads and neurons write, its FFN.

A library's view is data plus six short functions. Nothing here changes a model: the views only read its modules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from clearclip.errors import UserError

FEATURES = ("X_res", "X_attn", "X_sum")
OUTPUT = "X_out"  # what a block hands on, X_sum + FFN: the next block's X_res


class Site(NamedTuple):
    """Where a feature map can be read: a submodule of the block ("" is the block) and which end of it."""

    module: str
    end: str  # "input" or "output"


class Writer(NamedTuple):
    """What brings heads or neurons to the stream: a linear module, and the LayerScale behind it (D,) if there is one."""

    module: nn.Linear
    scale: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """What its inputs (B, L, inputs) add to the stream, (B, L, D)."""
        return self.scaled(self.module(x))

    def scaled(self, x: Tensor) -> Tensor:
        """LayerScale, where there is one, (B, L, D)."""
        return x if self.scale is None else x * self.scale

    def toward(self, directions: Tensor) -> Tensor:
        """What the inputs of the module add along some directions of the stream, (…, D, T) → (…, inputs, T)."""
        return self.module.weight.mT.to(directions.dtype) @ self._scaled(directions)

    def bias_toward(self, directions: Tensor) -> Tensor:
        """What its bias adds along them, (…, D, T) → (…, T)."""
        bias = self.module.bias
        scaled = self._scaled(directions)
        return scaled.sum(-2) * 0 if bias is None else (bias.to(directions.dtype)[:, None] * scaled).sum(-2)

    def _scaled(self, directions: Tensor) -> Tensor:
        return directions if self.scale is None else self.scale.to(directions.dtype)[:, None] * directions

    @contextmanager
    def watched(self, see: Callable[[Tensor], None]) -> Iterator[None]:
        """Inside, `see` is handed what the module is given, call by call, (B, L, inputs)."""
        handle = self.module.register_forward_pre_hook(lambda module, args: see(args[0]))
        try:
            yield
        finally:
            handle.remove()


@dataclass(frozen=True)
class Block(ABC):
    """A pre-norm block of a vision transformer, X_sum = X_res + X_attn and X_out = X_sum + FFN(LN2(X_sum)).

    A subclass is the view on one library's blocks: `classes` are the library's own block classes, and `sites` names the
    places of X_res, X_attn and X_sum (paper eq. 2). X_res + X_attn = X_sum holds bit-exactly between the three.

    Args:
        module: the library's own block.

    Raises:
        UserError: `module` is of a class whose sites are not known.
    """

    module: Any
    classes: ClassVar[tuple[type, ...]] = ()
    sites: ClassVar[dict[str, Site]] = {}

    def __post_init__(self) -> None:
        if type(self.module) not in self.classes:
            supported = ", ".join(qualified(known) for known in self.classes)
            raise UserError(
                f"blocks of class {qualified(type(self.module))} are not supported; supported are {supported}. "
                "Post-norm and parallel blocks have no X_res + X_attn = X_sum to look at."
            )

    def site(self, feature: str) -> tuple[nn.Module, str]:
        """The module to hook for a feature or `OUTPUT`, and whether its "input" or its "output" is the map."""
        place = Site("", "output") if feature == OUTPUT else self.sites[feature]
        return self.module.get_submodule(place.module), place.end

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.attention.num_heads

    @property
    def attention(self) -> Any:
        """The library's attention module."""
        return self.module.attn

    @property
    @abstractmethod
    def attention_writer(self) -> Writer:
        """What writes the heads' A·v to the stream; its inputs are the heads side by side."""

    @property
    @abstractmethod
    def ffn_writer(self) -> Writer:
        """What writes the FFN's neurons to the stream; its inputs are the neurons."""

    @abstractmethod
    def norm1(self, x: Tensor) -> Tensor:
        """LN1, what q, k and v are computed from, (B, L, D) → (B, L, D)."""

    @abstractmethod
    def qkv(self, y: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of paper eq. 1, with the model's normalization of q and k and its rotary positions.

        Args:
            y: LN1(X_res), (B, L, D).
            rope: the rotary position embedding the block was called with, if the model has one.

        Returns:
            q, k and v, each (B, heads, L, C) with C channels per head.
        """

    def gathered(self, values: Tensor, y: Tensor) -> Tensor:
        """What the output projection is given, (B, L, heads · C): A·v, with the norm and the gate of models that have them."""
        return join_heads(values)

    def output(self, values: Tensor, y: Tensor) -> Tensor:
        """X_attn from A·v: output projection, gate and LayerScale, where the model has them.

        Args:
            values: A·v, (B, heads, L, C).
            y: LN1(X_res), (B, L, D), which a gate looks at.

        Returns:
            X_attn, (B, L, D).
        """
        return self.attention_writer(self.gathered(values, y))

    @abstractmethod
    def ffn(self, x: Tensor) -> Tensor:
        """What the FFN adds to the stream x: FFN(LN2(x)), (B, L, D) → (B, L, D)."""

    def summed(self, x: Tensor) -> Tensor:
        """X_sum as the block hands it on: what it is given, unless a view changes it, (B, L, D) → (B, L, D)."""
        return x

    def forward(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """The library's own block, run as it is, (B, L, D) → (B, L, D)."""
        return self.module(x) if rope is None else self.module(x, rope=rope)


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v of one fused projection, (B, L, 3 · heads · C) → three (B, heads, L, C)."""
    B, L, _ = qkv.shape
    q, k, v = qkv.reshape(B, L, 3, heads, -1).permute(2, 0, 3, 1, 4)  # each (B, heads, L, C)
    return q, k, v


def join_heads(values: Tensor) -> Tensor:
    """The heads side by side, (B, heads, L, C) → (B, L, heads · C)."""
    return values.transpose(1, 2).flatten(2)


def qualified(kind: type) -> str:
    """The library and the name of a class, such as timm.Block."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
