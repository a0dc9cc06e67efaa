"""Data sets of the Hugging Face hub, of local folders and of Parquet files, streamed by the datasets library.

Files of pictures and tables of bytes only: formats that are decoded by suffix are refused, and so is a table that names files
which are not its own. Data sets that bring code are refused by the library itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import fsspec
from datasets import Image, IterableDataset, load_dataset_builder

from analysis.scale.sources import Example, Shards, printable
from clearclip.errors import UserError
from clearclip.messages import kind

BUILDERS = ("parquet", "arrow", "imagefolder")


class Rows(Shards):
    """A split of a data set, of whose columns only the first one with pictures is read."""

    def __init__(self, text: str) -> None:
        self.name = f"hf:{text}"
        name, *rest = text.split(":")
        if len(rest) > 2:
            raise UserError(f"{self.name}: a data set is named as hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT.")
        split = rest[-1] if rest else "train"
        try:
            if name.endswith(".parquet"):
                builder = load_dataset_builder("parquet", data_files={split: name})
            else:
                builder = load_dataset_builder(name, rest[0] if len(rest) == 2 else None)
            if builder.info.builder_name not in BUILDERS:
                raise UserError(
                    f"{self.name} is of the kind {builder.info.builder_name}; streamed are {', '.join(BUILDERS)}, and tar files "
                    "as webdataset:SHARDS."
                )
            rows = builder.as_streaming_dataset(split)
        except UserError:
            raise
        except Exception as error:  # the library raises whatever its many kinds of data sets stumble over
            raise UserError(
                f"{self.name} cannot be streamed ({kind(error)}). Name a data set and a split that the hub has, while it can be "
                "reached, a folder of pictures, or Parquet files."
            ) from error
        self.rows, self.column = _pictures_of(rows, self.name)
        files = builder.config.data_files[split]
        self.files = set(map(str, files))
        self.labels = [f"{self.name}[{shard}]" for shard in range(rows.num_shards)]
        facts = json.dumps([list(map(str, files)), getattr(files, "origin_metadata", None)], default=str)
        self.state = sha256(facts.encode()).hexdigest()  # files, and their times or the hub's revision

    def stamp(self, shard: int) -> str:
        """Which files the data set has and of when they are, or the revision of the hub."""
        return self.state

    def read(self, shard: int) -> Iterator[Example]:
        """The pictures of one of the library's shards."""
        try:
            for number, row in enumerate(self.rows.shard(num_shards=len(self.labels), index=shard)):
                yield self._example(row[self.column] or {}, number)
        except Exception as error:  # of files that are damaged or out of reach, pyarrow and fsspec raise all kinds
            raise UserError(
                f"{self.labels[shard]} cannot be read to its end: {kind(error)}. Put it right and repeat the command; what is "
                "measured is kept."
            ) from error

    def _example(self, cell: dict[str, Any], number: int) -> Example:
        content, path = cell.get("bytes"), cell.get("path") or ""
        name = printable(path.replace("\\", "/").rpartition("/")[2]) or f"row {number}"
        if content is not None:
            return Example(name, content)
        if path.rpartition("::")[2] not in self.files:  # of another file of this machine, or none
            return Example(name, b"", "it has no bytes")
        with fsspec.open(path, "rb") as file:
            return Example(name, file.read())


def _pictures_of(rows: IterableDataset, name: str) -> tuple[IterableDataset, str]:
    """The only column that is read, as bytes."""
    features = rows.features or {}
    column = next((column for column, feature in features.items() if isinstance(feature, Image)), None)
    if column is None:
        raise UserError(
            f"{name} has no column of pictures; it has {', '.join(features) or 'no columns that are known'}."
        )
    return rows.select_columns([column]).cast_column(column, Image(decode=False)), column


def open_shards(text: str) -> Shards:
    """A data set by name, folder or files, and its split."""
    return Rows(text)
