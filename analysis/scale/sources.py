"""Pictures in shards: nobody knows beforehand how many there are, and they are read from beginning to end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib import import_module
from typing import NamedTuple

from PIL import Image

from analysis.probes.images import STREAMED, Picture
from clearclip.errors import UserError
from clearclip.pictures import BadImage, decode_image
from clearclip.textfiles import readable

LONGEST_NAME = 300  # characters; a member of a tar file may have any name


class Example(NamedTuple):
    """One picture as it lies in a shard: the bytes of its file, or why they are not taken."""

    name: str
    content: bytes
    fault: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 of its bytes."""
        return sha256(self.content).hexdigest()

    def picture(self, shard: str) -> Picture:
        """The picture, which is decoded when it is read; messages call it by its shard and its name."""
        return Picture(f"{shard}/{self.name}", lambda: self._decoded(shard), shard, promise=self.digest)

    def _decoded(self, shard: str) -> Image.Image:
        if self.fault:
            raise BadImage(f"{shard}/{self.name} cannot be used: {self.fault}")
        return decode_image(self.content, f"{shard}/{self.name}")


class Shards(ABC):
    """A stream of pictures, in shards that processes share."""

    name: str
    """What was asked for."""
    labels: Sequence[str]
    """What messages call each shard."""

    @abstractmethod
    def stamp(self, shard: int) -> str:
        """A text that stays the same as long as a shard does, found without reading it; empty if there is none."""

    @abstractmethod
    def read(self, shard: int) -> Iterator[Example]:
        """The pictures of a shard, in their order; raises `UserError` for one that cannot be read to its end."""


def shards(source: str) -> Shards:
    """The shards that a source names.

    Args:
        source: webdataset:SHARDS, tar files with braces such as webdataset:data/train-{000..099}.tar, or hf:NAME:SPLIT or
            hf:NAME:CONFIG:SPLIT, a data set of the Hugging Face hub, of a local folder or of Parquet files.

    Raises: `UserError` for another source, a missing library, and shards that are not there.
    """
    kind, _, rest = source.partition(":")
    if kind not in STREAMED or not rest:
        raise UserError(f"{source}: a stream is named as webdataset:SHARDS or hf:NAME:SPLIT.")
    try:
        file = import_module(STREAMED[kind])
    except ModuleNotFoundError as error:
        raise UserError(
            f'{source} needs the {error.name} library: python -m pip install "clearclip-analysis[scale]".'
        ) from error
    return file.open_shards(rest)


def printable(name: str) -> str:
    r"""A name that a stranger gave, as text that can be printed and stored.

    >>> printable("cat.jpg"), printable("\x1b[2Jcat\udce9.jpg")
    ('cat.jpg', '\\x1b[2Jcat\\xe9.jpg')
    """
    text = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in readable(name)
    )
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"
