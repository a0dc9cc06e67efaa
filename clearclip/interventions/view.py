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
from clearclip.interventions.block import ChangedBlock
from clearclip.interventions.change import Change, Place
from clearclip.models.backbone import Backbone
from clearclip.models.block import Block
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
