"""A model while interventions act in it: the same modules and weights, seen through views that change what passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from clearclip.errors import UserError
from clearclip.interventions.change import Change, Place
from clearclip.models.backbone import Backbone
from clearclip.models.block import Block, Writer
from clearclip.models.wrap import ModelLike, as_backbone


def intervene(model: ModelLike, changes: Sequence[Change] | Change, name: str = "") -> Backbone:
    """A view on a model in which interventions act; the model itself stays as it is, and is used by others unchanged.

    Args:
        model: a `Backbone`, a live module, or a name.
        changes: one or several, applied in this order where they meet.
        name: what results call the view; by default the model's name and the interventions.

    Raises:
        UserError: the model does not have what is to be changed.

    >>> import clearclip, torch
    >>> from clearclip.interventions import Channels, intervene
    >>> model = clearclip.load("clip_tiny")
    >>> images = torch.zeros(1, 3, 64, 64)
    >>> without = intervene(model, Channels(layer=2, channels=(5,)))
    >>> without.block_inputs(images, [2])[2].x[..., 5].abs().max(), model.block_inputs(images, [2])[2].x[..., 5].abs().max() > 0
    (tensor(0.), tensor(True))
    """
    backbone = as_backbone(model)
    several = (changes,) if isinstance(changes, Change) else tuple(changes)
    if not several:
        raise UserError("no intervention: name at least one, such as Heads(layer=11, heads=(3,)).")
    for change in several:
        change.check(backbone)
    if sum(change.registers > 0 for change in several) > 1:
        raise UserError(f"{', '.join(map(repr, several))}: registers are added once.")
    shared = {each.name: getattr(backbone, each.name) for each in fields(Backbone) if each.init}
    shared["name"] = name or f"{backbone.name} {', '.join(map(repr, several))}"
    return ChangedBackbone(**shared, of=backbone, changes=several)


@dataclass(repr=False)
class ChangedBackbone(Backbone):
    """A `Backbone` whose every pass runs with interventions, whatever library it is of.

    Args:
        of: the view on the model as it is.
        changes: what acts in it.
    """

    of: Backbone = field(kw_only=True)
    changes: tuple[Change, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        self.has_text = self.of.has_text  # type: ignore[misc]  # of the model, not of the class
        super().__post_init__()

    @property
    def interventions(self) -> str:
        """The changes, as they are written down."""
        return ", ".join(filter(None, [self.of.interventions, *map(repr, self.changes)]))

    @property
    def vit(self) -> Any:
        """The model's own."""
        return self.of.vit

    @property
    def prefix_tokens(self) -> int:
        """The model's own, and the registers."""
        return self.of.prefix_tokens + self.registers

    @property
    def registers(self) -> int:
        """How many tokens stand between the model's own prefix tokens and the patches."""
        return sum(change.registers for change in self.changes)

    @property
    def patch_size(self) -> int:
        """The model's own."""
        return self.of.patch_size

    @property
    def image_size(self) -> int:
        """The model's own."""
        return self.of.image_size

    @property
    def width(self) -> int:
        """The model's own."""
        return self.of.width

    @property
    def resizing(self) -> str:
        """The model's own."""
        return self.of.resizing

    @property
    def final_norms(self) -> Sequence[nn.Module]:
        """The model's own."""
        return self.of.final_norms

    @property
    def has_projection(self) -> bool:
        """The model's own."""
        return self.of.has_projection

    def project(self, x: Tensor) -> Tensor:
        """The model's own."""
        return self.of.project(x)

    def project_linearly(self, x: Tensor) -> Tensor:
        """The model's own."""
        return self.of.project_linearly(x)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """The model's own."""
        return self.of.encode_texts(texts)

    def untrained(self, names: Sequence[str]) -> list[str]:
        """The model's own."""
        return self.of.untrained(names)

    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        """The model's own."""
        return self.of.transform(image_size)

    def resized(self, way: str) -> Backbone:
        """The model with other positions, and the same interventions."""
        return intervene(self.of.resized(way), self.changes, self.name) if way else self

    def _blocks(self) -> Sequence[Block]:
        changed: dict[int, dict[Place, list[Change]]] = {}
        for change in self.changes:
            for layer, place in change.places():
                changed.setdefault(layer, {}).setdefault(place, []).append(change)
        return [
            ChangedBlock(block.module, block, layer, changed.get(layer, {}), self.prefix_tokens, self.registers)
            for layer, block in enumerate(self.of.blocks, 1)
        ]

    def _run(self, images: Tensor) -> object:
        with ExitStack() as stack:
            for block in self.blocks:
                assert isinstance(block, ChangedBlock)
                stack.enter_context(block.acting())
            if self.registers:
                stack.enter_context(_inserted(self.blocks[0].module, self.of.prefix_tokens, self.registers))
            return self.of._run(images)


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


@contextmanager
def _inserted(first: nn.Module, prefix: int, count: int) -> Iterator[None]:
    """Inside, the first block is given tokens of zeros behind the model's own prefix tokens."""

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0] if args else kwargs["hidden_states"]
        zeros = x.new_zeros(len(x), count, x.shape[-1])
        x = torch.cat([x[:, :prefix], zeros, x[:, prefix:]], 1)
        return ((x, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": x})

    handle = first.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
    try:
        yield
    finally:
        handle.remove()
