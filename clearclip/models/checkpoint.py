"""Weights from a local file: read without running its code, refused where they do not fit, named by their digest."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clearclip.errors import UserError
from clearclip.models.backbone import Plan
from clearclip.models.conversion import belongs, converted
from clearclip.models.likeness import likeness
from clearclip.models.tensors import refuse_other_types, refuse_unusual
from clearclip.models.torchscript import is_archive, read_archive
from clearclip.models.weights import Weights
from clearclip.textfiles import readable

WRAPPERS = ("teacher", "state_dict", "model", "module", "model_state_dict", "student")  # of several, the first is taken


def load_checkpoint(model: Any, path: Path, architecture: str, plan: Plan) -> Weights:
    """Put the tensors of a file into a model, and say what is left out.

    Args:
        model: the library's model, changed in place.
        path: as for `read_state_dict`, in any layout that `clearclip.models.layouts` knows or the library converts.
        architecture: what the model is called in messages.
        plan: how the library made the model.

    Returns:
        The file's name and the SHA-256 of its bytes.

    Raises:
        UserError: the file cannot be read, or is of another architecture, which is named; or its keys or shapes are not the
            model's, of which up to five of each kind are named; or its weights need QuickGELU and the model has GELU.
    """
    file = read_state_dict(path)
    expected = model.state_dict()

    def check(state: Mapping[str, Tensor]) -> None:
        given, wanted = likeness(state), likeness(expected)
        if given is not None and wanted is not None and given[1:] != wanted[1:]:
            like = f" It looks like {' or '.join(given.names)}." if given.names else ""
            raise UserError(f"the file has {given}, the model has {wanted}.{like}")

    try:
        state, left_out, absent = converted(file, expected, partial(plan.convert, model), check)
    except UserError as error:
        raise UserError(f"{path} does not hold the weights of {architecture}: {error}") from error
    _check_activation("OpenAI's sizes" in left_out, model, path, architecture, plan.twin)
    required = {
        key: tensor
        for key, tensor in expected.items()
        if key in state or not any(belongs(key, part) for part in absent)
    }
    _refuse_misfits(required, state, path, architecture)
    if left_out:
        warnings.warn(f"{path.name}: not needed and left out: {', '.join(left_out)}.", stacklevel=2)
    if absent:
        warnings.warn(f"{path.name} does not have {', '.join(absent)} of {architecture}.", stacklevel=2)
    refuse_other_types(path, state, expected)
    model.load_state_dict(state, strict=not absent)
    if "the projection to texts" in absent:
        model.visual.proj = None
    return Weights(readable(path.name), file_digest(path), without_text="the text tower" in absent)


def _refuse_misfits(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path, architecture: str) -> None:
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
            f"{path} does not hold the weights of {architecture}. Keys {misfits}. The file must have the layout of its "
            "library, of transformers, or of the authors of OpenAI's CLIP, DINO, DINOv2 or MAE."
        )


def _check_activation(openai: bool, model: nn.Module, path: Path, architecture: str, twin: str | None) -> None:
    """Refuse OpenAI's weights, which need QuickGELU, in a model with GELU, and say where a file does not tell.

    Args:
        openai: whether the file has the sizes that only OpenAI keeps beside its weights.
        twin: the same architecture with the other activation, if there is one.
    """
    own, other = "GELU", "QuickGELU"
    if any(type(module).__name__ == other for module in model.modules()):
        own, other = other, own
    if openai and own == "GELU":
        raise UserError(
            f"{path} has the sizes that OpenAI keeps beside its weights, so they were trained with QuickGELU, and {architecture} "
            f"has GELU, which would give other statistics. Use {twin or 'an architecture with QuickGELU'}."
        )
    if twin and not openai:
        warnings.warn(
            f"{path.name} does not tell whether it was trained with GELU or with QuickGELU, as OpenAI's and MetaCLIP's weights "
            f"were. {architecture} has {own}; for {other}, take {twin}.",
            stacklevel=3,
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, a weights-only .pt or a TorchScript archive; never runs code from the file.

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
        if is_archive(path):
            return read_archive(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # plain attributes, which DINO and MAE keep beside
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(
            f"{path} cannot be loaded as weights only (tensors and plain values, no code). "
            "Convert it to safetensors where you trust it."
        ) from error
    content = _unwrapped(content, path)
    if not _is_state_dict(content):
        raise UserError(f"{path} does not hold a plain dictionary of tensors.")
    refuse_unusual(path, content)
    return content


def _unwrapped(content: Any, path: Path) -> Any:
    """The innermost of the dictionaries that training scripts commonly wrap tensors in."""
    while isinstance(content, dict):
        inside = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if inside is None:
            break
        others = [str(key) for key, value in content.items() if key != inside and value and _is_state_dict(value)]
        if others:
            warnings.warn(f"{path.name}: {inside} is taken, and not {', '.join(others)}.", stacklevel=3)
        content = content[inside]
    return content


def _is_state_dict(content: object) -> bool:
    return isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )
