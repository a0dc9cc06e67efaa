"""From the tensors of a file, in whatever known layout, to those that a model takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from clearclip.errors import UserError
from clearclip.models.layouts import State, known, renamed

HEAD = "the head"
PARTS = {  # what a file may have and a model not, or the other way round → how its keys look
    "the text tower": r"(text|transformer|token_embedding|ln_final|text_projection)\..*"
    r"|positional_embedding|text_projection|logit_scale|logit_bias",
    HEAD: r"(head|head_dist|classifier|pooler)\..*",
    "the projection to texts": r"visual\.proj",
}
SPARE = {  # what a model never has
    "the decoder": r"decoder.*",
    "the mask token": r"(.*\.)?mask_token",
    "OpenAI's sizes": r"(.*\.)?(input_resolution|context_length|vocab_size)",
    "the causal mask": r"(.*\.)?attn_mask",
    "the numbers of positions": r"(.*\.)?position_ids",
}
FUSED = re.compile(r"(.*)(qkv\.|in_proj_)(weight|bias)")


class Converted(NamedTuple):
    """What becomes of a file.

    Args:
        state: its tensors by the keys of the model, and by others where it does not fit.
        left_out: what of the file the model has no place for.
        absent: which parts of the model the file does not have.
    """

    state: State
    left_out: list[str]
    absent: list[str]


def converted(
    file: State, expected: Mapping[str, Tensor], convert: Callable[[State], State], check: Callable[[State], None]
) -> Converted:
    """The tensors of a file in the layout of a model.

    Args:
        file: the tensors as they are called in the file.
        expected: the state dict of the model.
        convert: the library's own converter to this model's layout.
        check: sees the tensors before `convert`, which in timm resizes without a word what does not fit.

    Raises:
        UserError: the file holds several models, cannot be converted, or is refused by `check`.

    >>> model = {"patch_embed.proj.weight": torch.zeros(2, 3, 8, 8)}
    >>> file = {f"module.{key}": tensor for key, tensor in model.items()} | {"module.head.weight": torch.zeros(5, 2)}
    >>> state, left_out, absent = converted(file, model, dict, lambda state: None)
    >>> list(state), left_out, absent
    (['patch_embed.proj.weight'], ['the head'], [])
    """
    title, prefix = known(file) or (None, _prefix(file, expected))
    state = {key.removeprefix(prefix): tensor for key, tensor in file.items() if key.startswith(prefix)}
    if title is not None:
        state = renamed(state, title)
    check(state)
    no_place = {part: keys for part, keys in (PARTS | SPARE).items() if not has(part, expected)}
    left_out = list(dict.fromkeys([part for part in no_place if has(part, state)] + _beside(file, prefix)))
    if not expected.keys() <= state.keys():
        try:
            state = convert(state)
        except UserError:
            raise
        except Exception as error:  # converters expect whole files of the shapes they were written for
            raise UserError(f"it cannot be converted ({type(error).__name__}: {error})") from error
        state = {key: _shaped(tensor, expected.get(key)) for key, tensor in _fused(state, expected).items()}
    state = {
        key: tensor
        for key, tensor in state.items()
        if key in expected or not any(re.fullmatch(keys, key) for keys in no_place.values())
    }
    if any(belongs(key, HEAD) and state[key].shape != expected[key].shape for key in state.keys() & expected.keys()):
        state = {key: tensor for key, tensor in state.items() if not belongs(key, HEAD)}  # for other classes
        left_out.append(HEAD)
    absent = [part for part in PARTS if has(part, expected) and not has(part, state)]
    return Converted(state, left_out, absent)


def has(part: str, keys: Iterable[str]) -> bool:
    """Whether some keys belong to a part."""
    return any(belongs(key, part) for key in keys)


def belongs(key: str, part: str) -> bool:
    """Whether a key belongs to a part.

    >>> belongs("text_projection", "the text tower"), belongs("visual.proj", "the text tower")
    (True, False)
    """
    return re.fullmatch((PARTS | SPARE)[part], key) is not None


def _prefix(file: State, expected: Mapping[str, Tensor]) -> str:
    """What stands in the file before the first key of a model whose layout is nobody else's."""
    first = next(iter(expected))
    prefixes = [key.removesuffix(first) for key in file if key == first or key.endswith(f".{first}")]
    return min(prefixes, key=len, default="")


def _beside(file: State, prefix: str) -> list[str]:
    """What the file has beside the model: known parts, and others by what their keys begin with.

    >>> ones = torch.ones(1)
    >>> _beside({"module.backbone.norm.bias": ones, "module.head.mlp.0.bias": ones, "ema.step": ones}, "module.backbone.")
    ['ema.step', 'the head']
    """
    parent = prefix[:-1].rpartition(".")[0]
    keys = [key.removeprefix(f"{parent}.") for key in file if not key.startswith(prefix)]
    names = {next((part for part in PARTS | SPARE if belongs(key, part)), ".".join(key.split(".")[:2])) for key in keys}
    return sorted(names)[:5] + ["…"] * (len(names) > 5)


def _fused(state: State, expected: Mapping[str, Tensor]) -> State:
    """q, k and v joined where the model has them in one matrix, and parted where it has several."""
    state = dict(state)
    for key in expected.keys() - state.keys():
        if match := FUSED.fullmatch(key):
            parts = [f"{match[1]}{name}_proj.{match[3]}" for name in "qkv"]
            if state.keys() >= set(parts):
                state[key] = torch.cat([state.pop(part) for part in parts])
    for key in state.keys() - expected.keys():
        if match := FUSED.fullmatch(key):
            for names in (("q_proj", "k_proj", "v_proj"), ("q", "kv")):
                parts = [f"{match[1]}{name}.{match[3]}" for name in names]
                if expected.keys() >= set(parts):
                    rows = [len(expected[part]) for part in parts]
                    if sum(rows) == len(state[key]):
                        state |= zip(parts, state.pop(key).split(rows), strict=True)
    return state


def _shaped(tensor: Tensor, expected: Tensor | None) -> Tensor:
    """The same numbers with the model's axes of length 1."""
    if expected is None or tensor.squeeze().shape != expected.squeeze().shape:
        return tensor
    return tensor.reshape(expected.shape)
