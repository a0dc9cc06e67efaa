"""Models as they are written on a command line: a name, with a label before it and a checkpoint behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clearclip.errors import UserError
from clearclip.models.names import ELSEWHERE, LIBRARIES
from clearclip.textfiles import readable

CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Named:
    """A model that is not loaded yet.

    Args:
        label: what results call it.
        name: what `load` calls it.
        checkpoint: the file of its weights; None for those of its name.
    """

    label: str
    name: str
    checkpoint: Path | None = None


def named(text: str) -> list[Named]:
    """The models that `label=name:checkpoint` stands for; label and checkpoint may be left out.

    A folder of checkpoints gives one model for each file, in natural order and labelled by the file's stem.

    Raises:
        UserError: the label, the name or the file is empty, there is no such file, or no checkpoint in a folder.

    >>> named("clip_vitb16")
    [Named(label='clip_vitb16', name='clip_vitb16', checkpoint=None)]
    >>> named("mine=timm:vit_small_patch16_224.dino")
    [Named(label='mine', name='timm:vit_small_patch16_224.dino', checkpoint=None)]
    """
    before, equals, rest = text.partition("=")
    label: str | None = before
    if not equals or ":" in before:  # an = behind a colon belongs to the name of a file
        label, rest = None, text
    name, colon, file = _split(rest)
    if not name.strip() or (label is not None and not label.strip()) or (colon and not file.strip()):
        raise UserError(f"model {text!r}: write a name, or label=name, or label=name:checkpoint.safetensors.")
    if not file:
        return [Named(label or name, name)]
    path = Path(file)
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.suffix in CHECKPOINTS), key=_natural)
        if not files:
            raise UserError(f"{path}: no checkpoint in this folder; looked for {', '.join(CHECKPOINTS)}.")
        return [Named(readable(file.stem), name, file) for file in files]
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file.")
    return [Named(label or name, name, path)]


def all_named(names: Sequence[str], checkpoints: Sequence[Path] = ()) -> list[Named]:
    """The models that some names stand for, each label once.

    Args:
        names: as `named` takes them.
        checkpoints: none, or one for each name, with `-` for the weights of its name.

    Raises:
        UserError: `named` raises it, a label is repeated, or checkpoints do not fit the names in number.

    >>> [(model.label, model.name) for model in all_named(["clip_tiny", "mine=dino_tiny"])]
    [('clip_tiny', 'clip_tiny'), ('mine', 'dino_tiny')]
    """
    if checkpoints and len(checkpoints) != len(names):
        raise UserError(f"{len(checkpoints)} checkpoints for {len(names)} models: name one for each, in order.")
    if not names:
        raise UserError("no model is named.")
    models = [model for text in names for model in named(text)]
    if checkpoints:
        if any(model.checkpoint for model in models):
            raise UserError("name checkpoints behind the models or with --checkpoint, not both.")
        files = [None if file == Path("-") else file for file in checkpoints]
        models = [replace(model, checkpoint=file) for model, file in zip(models, files, strict=True)]
    labels = [model.label for model in models]
    if len(set(labels)) != len(labels):
        raise UserError(
            f"a model is named twice. Give each a label of its own: before={models[0].name} after={models[0].name}:FILE."
        )
    return models


def _split(text: str) -> tuple[str, str, str]:
    """Name, colon and checkpoint; the name may have a library before a colon of its own."""
    first, colon, rest = text.partition(":")
    if first not in LIBRARIES:
        return first, colon, rest
    if rest.startswith(ELSEWHERE):  # which `resolve` refuses, under its whole name
        return text, "", ""
    second, colon, file = rest.partition(":")
    return f"{first}:{second}", colon, file


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts step_9 before step_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.stem)]
