"""Exported tokens as a data set of PyTorch, read from memory-mapped shards."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from analysis.shards import protocol
from analysis.shards.plan import DTYPES
from analysis.shards.shard import PLACES, tensor_name
from clearclip.errors import UserError
from clearclip.models.checkpoint import file_digest


class Origin(NamedTuple):
    """Where a token comes from: its picture, its place in the model's sequence, and its patch (−1 before the patches)."""

    picture: str
    token: int
    row: int
    column: int


class TokenShards(Dataset[Tensor]):
    """The tokens of one layer and feature of an export, each a vector (D,) float32, in the order that its protocol says.

    Args:
        folder: what `python -m analysis.export` or `export_tokens` has written.
        layer: counted from 1.
        feature: X_res, X_attn or X_sum.
        check: whether to compare the SHA-256 of every shard, which reads all of them once.

    Files are mapped into memory, so a shuffled `DataLoader` reads only the tokens of a batch, in any number of workers.

    Raises: `UserError` if the folder holds no finished export, one of a newer version, without this layer or feature, or with
    missing or damaged shards.

    >>> import tempfile, clearclip, analysis
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = analysis.export_tokens(clearclip.load("clip_tiny"), "scenes", folder, limit=2, progress=False)
    ...     tokens = TokenShards(folder, layer=6)
    ...     len(tokens), tokens[100].shape, tokens.origin(100)
    (128, torch.Size([96]), Origin(picture='scene 1', token=37, row=4, column=4))
    """

    def __init__(self, folder: str | Path, layer: int, feature: str = "X_sum", *, check: bool = False) -> None:
        self.folder, self.layer, self.feature = Path(folder), layer, feature
        self.protocol: dict[str, Any] = protocol.read(self.folder)
        for what, value, known in (("layer", layer, "layers"), ("feature", feature, "features")):
            if value not in self.protocol[known]:
                raise UserError(
                    f"{self.folder} has no {what} {value}: choose from {', '.join(map(str, self.protocol[known]))}."
                )
        self.shards = self.protocol["shards"]
        self.lengths = np.array([shard["length"] for shard in self.shards])
        self.ends = np.cumsum(self.lengths)  # of the rows of each shard, among all
        self._opened: dict[tuple[int, str], Tensor] = {}
        if check:
            for shard in self.shards:
                if file_digest(self.folder / shard["file"]) != shard["sha256"]:
                    raise self._damaged(shard["file"], "its content does not fit its SHA-256")

    def __repr__(self) -> str:
        name, width = tensor_name(self.layer, self.feature), self.protocol["width"]
        return f"TokenShards({len(self):,} tokens × {width}, {name} of {self.protocol.get('model')}, {len(self.shards)} shards)"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}  # a worker maps the files for itself

    def __len__(self) -> int:
        return int(self.protocol["length"])

    def __getitem__(self, index: int) -> Tensor:
        """One token, (D,) float32."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """Several tokens at once, which is what a `DataLoader` asks for."""
        shards, rows = self._places(indices)
        vectors = torch.empty((len(rows), self.protocol["width"]))
        for shard in np.unique(shards).tolist():
            here = shards == shard
            tokens = self._tensor(shard, tensor_name(self.layer, self.feature))
            vectors[torch.from_numpy(here)] = tokens[torch.from_numpy(rows[here])].float()
        return list(vectors)

    def origin(self, index: int) -> Origin:
        """The picture that a token is of, and where in it."""
        (shard,), (row,) = self._places([index])
        picture, token, line, column = (int(self._tensor(int(shard), name)[row]) for name in PLACES)
        return Origin(self.pictures[picture], token, line, column)

    @cached_property
    def pictures(self) -> list[str]:
        """What the pictures are called, in the order in which shards count them; also those that were skipped."""
        return protocol.picture_names(self.folder, self.protocol)

    def _places(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Which shards tokens are in, and in which rows of them; negative numbers count from the end."""
        asked = np.asarray(indices, np.int64)
        numbers = np.where(asked < 0, asked + len(self), asked)
        outside = asked[(numbers < 0) | (numbers >= len(self))]
        if outside.size:
            raise IndexError(f"token {outside[0]}: there are {len(self)}.")
        shards = np.searchsorted(self.ends, numbers, side="right")
        return shards, numbers - (self.ends - self.lengths)[shards]

    def _tensor(self, shard: int, name: str) -> Tensor:
        """A tensor of a shard, mapped into memory: what is not looked at is not read."""
        if (shard, name) not in self._opened:
            about = self.shards[shard]
            shape = [about["length"]] if name in PLACES else [about["length"], self.protocol["width"]]
            dtype = torch.int32 if name in PLACES else DTYPES.get(self.protocol["dtype"])
            try:
                with safe_open(self.folder / about["file"], framework="pt") as file:
                    tensor = file.get_slice(name)[:]
            except (SafetensorError, OSError) as error:
                raise self._damaged(about["file"], str(error)) from error
            if list(tensor.shape) != shape or tensor.dtype != dtype:
                raise self._damaged(about["file"], f"its {name} is {tensor.dtype} {list(tensor.shape)}")
            self._opened[shard, name] = tensor
        return self._opened[shard, name]

    def _damaged(self, file: str, reason: str) -> UserError:
        return UserError(
            f"{self.folder / file} is damaged: {reason}. Repeat the command that {self.folder / protocol.JSON} names, which "
            "writes it anew."
        )
