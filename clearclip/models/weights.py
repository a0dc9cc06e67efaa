"""Where a model's numbers come from: the name and the SHA-256 that every result carries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn


class Weights(NamedTuple):
    """Weights that stay as they are: a readable name, and the SHA-256 of the file or of the state dict.

    Args:
        name: what results call them.
        sha256: of the file, or of the state dict.
        random: whether they were never trained.
        without_text: whether they are those of an image tower alone, so that the model's text tower has none.
    """

    name: str
    sha256: str
    random: bool = False
    without_text: bool = False


@dataclass(frozen=True)
class LiveWeights:
    """The weights of a live module, which may be in training: their SHA-256 is taken anew whenever it is asked for."""

    module: nn.Module
    name: ClassVar[str] = "live module"
    random: ClassVar[bool] = False
    without_text: ClassVar[bool] = False

    @property
    def sha256(self) -> str:
        """The fingerprint of the state dict as it is now."""
        return fingerprint(self.module)


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes, types and bytes of a model's state dict."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
