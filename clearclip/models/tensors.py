"""Whether tensors from a file are numbers that a model can be given: plain ones, of the kind that its weights are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from clearclip.errors import UserError

LISTED = 3  # of many keys in one message


def refuse_unusual(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise `UserError` for tensors without numbers of their own, and for sparse, nested or quantized ones.

    Args:
        path: the file that they come from, for the message.
        state: its tensors by their keys.

    >>> refuse_unusual(Path("mine.pt"), {"weight": torch.zeros(2)})
    """
    kinds = {key: kind for key, tensor in state.items() if (kind := _unusual(tensor))}
    if kinds:
        raise UserError(
            f"{path}: {_listed(kinds)}. Weights are plain tensors: save the model on the CPU, in floating point, with "
            "tensor.dequantize() or tensor.to_dense() where it is needed."
        )


def refuse_other_types(path: Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise `UserError` where a file has whole numbers, truth values or complex numbers in place of weights, or the reverse.

    Args:
        path: the file that they come from, for the message.
        state: its tensors by their keys.
        expected: those of the model.

    >>> refuse_other_types(Path("mine.pt"), {"weight": torch.zeros(2).half()}, {"weight": torch.zeros(2)})
    """
    kinds = {
        key: str(tensor.dtype).removeprefix("torch.")
        for key, tensor in state.items()
        if key in expected and (tensor.is_complex() or tensor.is_floating_point() != expected[key].is_floating_point())
    }
    if kinds:
        raise UserError(
            f"{path}: {_listed(kinds)}, where the model has numbers of another kind. Weights are saved in floating "
            "point: name a file that was not quantized or converted."
        )


def _unusual(tensor: Tensor) -> str:
    """What a tensor is that is not plain, or nothing."""
    if tensor.is_meta:
        return "a tensor on the meta device, without numbers"
    if tensor.is_quantized:
        return "a quantized tensor"
    if tensor.is_nested:
        return "a nested tensor"
    return "" if tensor.layout == torch.strided else f"a sparse tensor ({str(tensor.layout).removeprefix('torch.')})"


def _listed(kinds: Mapping[str, str]) -> str:
    """Keys with what they hold, the first few of many."""
    first = ", ".join(f"{key} is {kind}" for key, kind in list(kinds.items())[:LISTED])
    return first + (f", and {len(kinds) - LISTED} more" if len(kinds) > LISTED else "")
