"""Weights from a local file: read without running its code, refused where they do not fit, named by their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clearclip.errors import UserError
from clearclip.models.tensors import refuse_other_types, refuse_unusual
from clearclip.models.weights import Weights
from clearclip.textfiles import readable


def load_checkpoint(model: nn.Module, path: Path, architecture: str) -> Weights:
    """Put the tensors of a file into a model.

    Args:
        model: the library's model, changed in place.
        path: as for `read_state_dict`, in the library's own key layout.
        architecture: what the model is called in the message.

    Returns:
        The file's name and the SHA-256 of its bytes.

    Raises:
        UserError: the file cannot be read, or its keys or shapes are not the model's; up to five of each kind are named.
    """
    state = read_state_dict(path)
    expected = model.state_dict()
    wrong = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in sorted(expected.keys() & state.keys())
            if state[key].shape != expected[key].shape
        ],
    }
    if any(wrong.values()):
        misfits = "; ".join(
            f"{len(keys)} {kind}: {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}"
            for kind, keys in wrong.items()
            if keys
        )
        raise UserError(
            f"{path} does not hold the weights of {architecture}. Keys {misfits}. "
            "The file must have the library's own key layout."
        )
    refuse_other_types(path, state, expected)
    model.load_state_dict(state)
    return Weights(readable(path.name), file_digest(path))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or weights-only .pt file; never runs code from the file.

    Raises:
        UserError: there is no such file, or it holds anything but tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(
            f"{path} cannot be loaded as weights only (plain tensors, no code, no TorchScript archive). "
            "Convert it to safetensors where you trust it."
        ) from error
    if isinstance(content, dict):
        for key in ("state_dict", "model"):  # what training scripts commonly wrap the tensors in
            if isinstance(content.get(key), dict):
                content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise UserError(f"{path} does not hold a plain dictionary of tensors.")
    refuse_unusual(path, content)
    return {key.removeprefix("module."): value for key, value in content.items()}
