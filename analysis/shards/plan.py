"""What will be exported, before any picture is read: of which pictures, which tokens of which maps, in which shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil
import torch
from torch import Tensor

from analysis.probes.images import Picture
from analysis.probes.probe import Probe
from analysis.shards.shard import PLACES, tensor_name
from clearclip.entries import Record, list_digest
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES
from clearclip.models.memory import refuse_too_large
from clearclip.pictures import BadImage
from clearclip.runs import results
from clearclip.runs.stream import attempt

FORMAT, VERSION = "clearclip token shards", 1
TOKENS = ("patches", "all")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
COPIES = 3  # of a shard in memory while it is written: its tensors, their bytes, and these as a file


class Plan:
    """An export of one model and one list of pictures.

    Every shard is of as many pictures of the list, whether they can be read or not. So each is known beforehand, and can be
    written without the others.
    """

    def __init__(
        self,
        model: Backbone,
        entries: Sequence[Picture],
        layers: Sequence[int],
        features: Sequence[str],
        tokens: str,
        dtype: str,
        shard_tokens: int,
        image_size: int | None,
        batch_size: int,
    ) -> None:
        for what, value, allowed in (("tokens", tokens, TOKENS), ("dtype", dtype, tuple(DTYPES))):
            if value not in allowed:
                raise UserError(f"{what} {value!r}: choose from {', '.join(allowed)}.")
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: at least 1.")
        Probe(model, layers, features, keep=True)  # refuses sites that do not exist
        self.model, self.entries, self.batch_size = model, entries, batch_size
        self.layers = sorted(layers)
        self.features = [feature for feature in FEATURES if feature in features]
        self.names = [tensor_name(layer, feature) for layer in self.layers for feature in self.features]
        self.dtype = DTYPES[dtype]
        grid = model.grid(image_size)  # refuses a size that is not a multiple of the patch
        refuse_too_large(model, image_size, min(batch_size, len(entries)))
        self.transform = model.transform(image_size)
        self.first = model.prefix_tokens if tokens == "patches" else 0  # of the tokens that are written
        self.places = _places(self.first, model.prefix_tokens, *grid)
        self.per_picture = len(self.places["token"])
        self.per_shard = self._pictures_per_shard(shard_tokens)
        self.facts: dict[str, Any] = {
            "format": f"{FORMAT} {VERSION}",
            "model": model.name,
            **results.about_model(model),
            "image_size": model.image_size if image_size is None else image_size,
            "rows": grid[0],
            "columns": grid[1],
            "width": model.width,
            "layers": self.layers,
            "features": self.features,
            "tokens": tokens,
            "dtype": dtype,
            "shard_tokens": shard_tokens,
            "batch_size": batch_size,
            "image_list": list_digest(entries),
            "libraries": results.provenance()["libraries"],
        }

    def _pictures_per_shard(self, shard_tokens: int) -> int:
        """As many pictures as fit into a shard, in whole batches if there is room for one."""
        pictures = shard_tokens // self.per_picture
        if pictures < 1:
            raise UserError(
                f"shards of {shard_tokens} tokens: {self.model.name} has {self.per_picture} tokens per picture, so shards "
                f"need at least {self.per_picture}."
            )
        pictures = min(pictures - pictures % self.batch_size or pictures, len(self.entries))
        row = len(self.names) * self.model.width * self.dtype.itemsize
        wanted, space = COPIES * pictures * self.per_picture * row, psutil.virtual_memory().available
        if wanted > space:
            raise UserError(
                f"shards of {shard_tokens} tokens take {wanted / 2**30:,.1f} GiB of memory while they are written, and "
                f"{space / 2**30:,.1f} GiB are free: choose at most {space // COPIES // row} tokens (--shard-tokens), or fewer "
                "layers and features."
            )
        return pictures

    @property
    def count(self) -> int:
        """How many shards there will be."""
        return -(-len(self.entries) // self.per_shard)

    def pictures(self, number: int) -> range:
        """The pictures of a shard, by their places in the list."""
        return range(number * self.per_shard, min((number + 1) * self.per_shard, len(self.entries)))

    def batches(self, number: int) -> list[range]:
        """The pictures of a shard as they go through the model; batches are never divided, so that they give the same bits."""
        pictures, size = self.pictures(number), self.batch_size
        return [pictures[start : start + size] for start in range(0, len(pictures), size)]

    def read(self, index: int) -> tuple[Tensor | BadImage, Record]:
        """One picture, decoded and preprocessed, (3, H, W), or why it cannot be used; and what it was."""
        entry = self.entries[index]
        return attempt(entry, lambda: self.transform(entry.read()))


def _places(first: int, prefix: int, rows: int, columns: int) -> dict[str, Tensor]:
    """Where the tokens of one picture stand, from the `first` on; tokens before the patches have row and column −1.

    >>> {name: values.tolist() for name, values in _places(0, 1, 1, 2).items()}
    {'token': [0, 1, 2], 'row': [-1, 0, 0], 'column': [-1, 0, 1]}
    """
    token = torch.arange(first, prefix + rows * columns, dtype=torch.int32)
    patch = token - prefix
    row, column = (torch.where(patch < 0, -1, place) for place in (patch // columns, patch % columns))
    return dict(zip(PLACES[1:], (token, row, column), strict=True))
