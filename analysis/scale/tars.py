"""WebDataset shards: tar files of samples, of which only the pictures are read.

The webdataset library says which shards a pattern names, opens them, also across a network, and splits names into key and
field. Members are read by Python's tarfile, because the library reads each of them whole, however large it is, takes an
archive that breaks off for one that ends, and decodes by suffix. Here nothing but pictures is decoded.
"""

from __future__ import annotations

import gzip
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from webdataset.gopen import gopen
from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from analysis.scale.sources import Example, Shards, printable
from clearclip.contents import stamp
from clearclip.errors import UserError, refuse_repeated
from clearclip.pictures import picture_suffixes

META = re.compile(r"__[^/]*__($|/)")  # members that say something about the shard
LARGEST = 2**28  # bytes of one picture's file
LARGEST_HEADER = 2**20  # bytes between two members


class Tars(Shards):
    """Tar files of samples in WebDataset's layout."""

    def __init__(self, pattern: str) -> None:
        self.name = f"webdataset:{pattern}"
        try:
            self.labels = expand_urls(pattern)
        except (AssertionError, ValueError) as error:  # braces that do not close, or a variable that is not there
            raise UserError(f"{self.name}: {error}. Name shards as in data/train-{{000..099}}.tar.") from error
        refuse_repeated("shards", self.labels)
        if piped := [label for label in self.labels if label.startswith("pipe:")]:
            raise UserError(f"{piped[0]}: shards that a command writes are not read. Name files or URLs.")
        missing = [label for label in self.labels if _is_local(label) and not Path(label).is_file()]
        if missing:
            raise UserError(
                f"{self.name}: {len(missing)} of {len(self.labels)} shards are not there, {missing[0]} first. "
                "Name the shards that you have, as in data/train-{000..099}.tar."
            )
        self.suffixes = {suffix.removeprefix(".") for suffix in picture_suffixes()}

    def stamp(self, shard: int) -> str:
        """Size and times of a local file; what lies behind a URL is taken to stay."""
        label = self.labels[shard]
        return stamp(Path(label)) if _is_local(label) else label

    def read(self, shard: int) -> Iterator[Example]:
        """The first picture of every sample; other fields, such as labels and masks, are passed over."""
        label, before = self.labels[shard], None
        try:
            with gopen(label) as raw:
                stream = Bounded(gzip.GzipFile(fileobj=raw) if label.endswith(("gz", "gzip")) else raw)
                with tarfile.open(fileobj=stream, mode="r|", tarinfo=Header) as archive:  # type: ignore[call-overload]
                    for member in archive:
                        if member.issparse():
                            raise tarfile.ReadError("it holds a sparse file")
                        stream.left = member.size + LARGEST_HEADER
                        key, field = base_plus_ext(member.name)
                        is_picture = member.isreg() and field is not None and field.lower() in self.suffixes
                        if is_picture and key != before and not META.match(member.name):
                            before = key
                            yield _example(archive, member)
                        archive.members = []  # which would keep every header
        except Exception as error:  # of a damaged archive, or a connection that ends, the libraries raise all kinds
            raise UserError(
                f"{label} cannot be read to its end: {error}. Put a complete copy in its place and repeat the command; what is "
                "measured is kept."
            ) from error


def open_shards(pattern: str) -> Shards:
    """The tar files that a pattern with braces names; several patterns are joined by `::`."""
    return Tars(pattern)


class Bounded:
    """A stream of which only so many bytes are read before someone says that all is well: headers can say anything."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile) -> None:
        self.stream, self.left = stream, LARGEST_HEADER

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise tarfile.ReadError("a header is larger than any that belongs to a picture")
        return content


class Header(tarfile.TarInfo):
    """A member's header; where an archive breaks off, that is an error and not its end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Header:
        """The next header."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it is damaged or breaks off ({error})") from error


def _example(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Example:
    name = printable(member.name)
    if member.size > LARGEST:
        return Example(name, b"", f"its file has {member.size:,} bytes, and {LARGEST:,} is the most that is read")
    file = archive.extractfile(member)
    assert file is not None  # a regular file
    return Example(name, file.read())


def _is_local(label: str) -> bool:
    return "://" not in label
