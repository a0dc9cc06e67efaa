"""A block while interventions act in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clearclip.interventions.change import Change, Place
from clearclip.models.block import Block, Writer


@dataclass(frozen=True)
class ChangedBlock(Block):
    """A block in which interventions act, both in the library's own forward pass and in what recipes make of its parts.

    Args:
        of: the view on the block as it is.
        layer: counted from 1.
        changes: what acts in it, by place.
        prefix: how many tokens stand before the patches, registers included.
        registers: how many of them are registers.
    """

    of: Block
    layer: int
    changes: dict[Place, list[Change]]
    prefix: int
    registers: int

    def __post_init__(self) -> None:
        pass  # the block's own view has been checked

    @property
    def attention(self) -> Any:
        """The block's own."""
        return self.of.attention

    @property
    def attention_writer(self) -> Writer:
        """The block's own."""
        return self.of.attention_writer

    @property
    def ffn_writer(self) -> Writer:
        """The block's own."""
        return self.of.ffn_writer

    def site(self, feature: str) -> tuple[nn.Module, str]:
        """The block's own."""
        return self.of.site(feature)

    def norm1(self, x: Tensor) -> Tensor:
        """The block's own."""
        return self.of.norm1(x)

    def qkv(self, y: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The block's own, no register having a rotary position."""
        with self._without_positions():
            return self.of.qkv(y, rope)

    def gathered(self, values: Tensor, y: Tensor) -> Tensor:
        """What is left of the heads, (B, L, heads · C)."""
        return self.of.gathered(self._changed("heads", values), y)

    def output(self, values: Tensor, y: Tensor) -> Tensor:
        """X_attn of what is left of the heads, changed, (B, L, D)."""
        return self._changed("X_attn", super().output(values, y))

    def summed(self, x: Tensor) -> Tensor:
        """X_sum, changed, (B, L, D)."""
        return self._changed("X_sum", x)

    def ffn(self, x: Tensor) -> Tensor:
        """What the changed neurons add, (B, L, D)."""
        with self._neurons():
            return self.of.ffn(x)

    def forward(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """The library's own block with all changes but those of its input, which x has behind it, (B, L, D)."""
        with self.acting(entered=True):
            return self.of.forward(x, rope)

    def _changed(self, place: Place, x: Tensor) -> Tensor:
        for change in self.changes.get(place, []):
            x = change(x, self.layer, self.prefix)
        return x

    @contextmanager
    def acting(self, entered: bool = False) -> Iterator[None]:
        """Inside, the changes act in the library's own forward pass; all hooks stand before those of anybody else.

        Args:
            entered: whether the input has been changed already.
        """
        given: list[tuple[Tensor, Tensor | None]] = []

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            x = args[0] if args else kwargs["hidden_states"]
            x = x if entered else self._changed("X_res", x)
            given[:] = [(x, kwargs.get("rope"))]
            return ((x, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": x})

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            x_attn = self._x_attn(*given[0], output[0] if isinstance(output, tuple) else output)
            return (x_attn, *output[1:]) if isinstance(output, tuple) else x_attn

        with ExitStack() as stack:
            stack.enter_context(self._without_positions())
            if self.changes:
                stack.enter_context(self._neurons())
                attached = [self.module.register_forward_pre_hook(before, with_kwargs=True, prepend=True)]
                if self.changes.keys() & {"heads", "X_attn", "X_sum"}:
                    attached.append(self.site("X_attn")[0].register_forward_hook(after, prepend=True))
                for handle in attached:
                    stack.callback(handle.remove)
            yield

    def _x_attn(self, x: Tensor, rope: Tensor | None, x_attn: Tensor) -> Tensor:
        """What attention adds in place of what the library has just computed."""
        if "heads" in self.changes:  # which fused attention does not show
            y = self.norm1(x)
            q, k, v = self.qkv(y, rope)
            x_attn = self.of.output(self._changed("heads", nn.functional.scaled_dot_product_attention(q, k, v)), y)
        x_attn = self._changed("X_attn", x_attn)
        if "X_sum" not in self.changes:
            return x_attn
        before = x + x_attn
        after = self._changed("X_sum", before)
        return torch.where(after == before, x_attn, after - x)

    @contextmanager
    def _neurons(self) -> Iterator[None]:
        """Inside, what the FFN's neurons hand on is changed."""
        if "neurons" not in self.changes:
            yield
            return
        handle = self.ffn_writer.module.register_forward_pre_hook(
            lambda module, args: (self._changed("neurons", args[0]),), prepend=True
        )
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _without_positions(self) -> Iterator[None]:
        """Inside, rotary positions begin behind the registers."""
        own = getattr(self.attention, "num_prefix_tokens", None)
        if not self.registers or own is None:
            yield
            return
        self.attention.num_prefix_tokens = self.prefix
        try:
            yield
        finally:
            self.attention.num_prefix_tokens = own
