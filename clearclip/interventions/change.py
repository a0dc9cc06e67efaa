"""What an intervention is: one change of what passes through a model while it runs.

An intervention is a frozen dataclass of a few fields, written down as its own repr, such as
`Channels(layer=9, channels=(4, 162, 474))`, and read back by `clearclip.interventions.text`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.written import Written

# where a block can be changed: its input, what its heads gather (A·v), what attention adds, the sum, the FFN's neurons
Place = Literal["X_res", "heads", "X_attn", "X_sum", "neurons"]
TO = ("zero", "mean")


@dataclass(frozen=True, repr=False)
class Change(Written, ABC):
    """One change inside a model; it touches no weight, and is gone when the pass is over."""

    @abstractmethod
    def places(self) -> list[tuple[int, Place]]:
        """Where it acts: layers, counted from 1, and what of them."""

    @abstractmethod
    def __call__(self, x: Tensor, layer: int, prefix: int) -> Tensor:
        """What passes there instead.

        Args:
            x: what passes without it, (B, L, D); heads (B, heads, L, C), neurons (B, L, M).
            layer: where.
            prefix: how many tokens stand before the patches.
        """

    @abstractmethod
    def check(self, model: Backbone) -> None:
        """Refuse a model that lacks what is changed, with `UserError`."""

    @property
    def registers(self) -> int:
        """How many tokens of zeros it puts before the patches."""
        return 0


def replaced(x: Tensor, dim: int, which: tuple[int, ...], to: str, tokens: int) -> Tensor:
    """A tensor with some entries along one dimension at zero, or at their mean over the tokens of each picture.

    Args:
        x: any shape, (…, L, …).
        dim: along which the entries lie.
        which: the entries.
        to: "zero" or "mean".
        tokens: the dimension of the tokens.
    """
    index = torch.tensor(which, device=x.device)
    if to == "zero":
        return x.index_fill(dim, index, 0)
    part = x.index_select(dim, index)
    return x.index_copy(dim, index, part.mean(tokens, keepdim=True).expand_as(part).contiguous())


def refuse_beyond(what: str, which: tuple[int, ...], count: int, model: Backbone, layer: int, first: int = 0) -> None:
    """Raise `UserError` unless there are some numbers of channels, heads or neurons, each once and each in the model.

    Args:
        what: what is counted.
        which: the numbers.
        count: how many the model has.
        model: for messages.
        layer: for messages.
        first: the number of the first one.
    """
    last = first + count - 1
    if not which or len(set(which)) != len(which) or not all(first <= i <= last for i in which):
        raise UserError(
            f"{what} {', '.join(map(str, which)) or '(none)'} of layer {layer}: {model.name} has {what} {first} … {last}; name at "
            "least one, and each once."
        )


def refuse_unknown(change: Change, field: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise `UserError` unless a field has one of the allowed values."""
    if value not in allowed:
        raise UserError(f"{change!r}: {field} is {' or '.join(allowed)}, not {value!r}.")
