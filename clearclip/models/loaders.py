"""The models of a command line, one loader each, so that only one is in memory at a time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clearclip.errors import UserError

if TYPE_CHECKING:
    from clearclip.models.backbone import Backbone


def loaders(
    names: Sequence[str], checkpoints: Sequence[Path], random: bool, device: str | None, precision: str
) -> "list[Callable[[], Backbone]]":
    """One loader for each model that was named, checked as far as possible before the first one is loaded.

    Raises `UserError` for an unknown or repeated name, or checkpoints that are missing or do not fit the names in number.
    """
    from clearclip.models.load import load, resolve

    if checkpoints and len(checkpoints) != len(names):
        raise UserError(f"{len(checkpoints)} checkpoints for {len(names)} models: name one for each, in order.")
    if not names:
        raise UserError("no model is named.")
    if len(set(names)) != len(names):
        raise UserError("a model is named twice.")
    for name in names:
        resolve(name)
    files = [None if file == Path("-") else file for file in checkpoints] or [None] * len(names)
    for file in files:
        if file is not None and not file.is_file():
            raise UserError(f"{file}: no such checkpoint file.")

    def loader(name: str, file: Path | None) -> "Callable[[], Backbone]":
        return lambda: load(name, file, random, device, precision)

    return [loader(name, file) for name, file in zip(names, files, strict=True)]
