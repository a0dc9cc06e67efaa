"""Pictures that are not read yet, and records of what they were when they were read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from clearclip.contents import Notes, contents, note_pixels, noted, stamp
from clearclip.pictures import BadImage

P = TypeVar("P", covariant=True)  # a picture, or a picture with its labels


@dataclass(frozen=True)
class Entry(Generic[P]):
    """One picture of a list, perhaps with labels, that has not been read yet.

    Args:
        name: what results call it.
        load: reads and decodes it.
        source: where it comes from.
        files: what `load` opens.
        promise: of a picture without files, a text that changes when the picture does; empty if nobody promises that.
    """

    name: str
    load: Callable[[], P]
    source: str
    files: tuple[Path, ...] = ()
    promise: str = ""

    def read(self) -> P:
        """The decoded picture; raises `BadImage` for one that cannot be used."""
        picture = self.load()
        if not self.files:
            note_pixels(*(picture if isinstance(picture, tuple) else (picture,)))
        return picture

    @property
    def stamp(self) -> str:
        """A text that stays the same as long as the picture does, found without reading it; empty if there is none."""
        return ", ".join(stamp(path) for path in self.files) or self.promise


class Record(NamedTuple):
    """What a picture was when it was read: its entry's `stamp`, and the SHA-256 of its contents."""

    stamp: str
    content: str


def record(entry: Entry[Any], notes: Notes) -> Record:
    """What a picture was, from what was noted while it was read; files that were not reached are hashed now."""
    files = [notes.files.get(path) or contents(path) for path in entry.files]
    parts = [file.sha256 for file in files] or notes.pixels
    return Record(", ".join(file.stamp for file in files) or entry.promise, _sha256(*parts))


def record_now(entry: Entry[Any]) -> Record:
    """What a picture is now; its files are hashed and not decoded."""
    with noted() as notes:
        if not entry.files:
            with suppress(BadImage):
                entry.read()
    return record(entry, notes)


def is_unchanged(entry: Entry[Any], before: Record) -> bool:
    """Whether a picture is what it was; it is read only where sizes and times do not tell."""
    return (before.stamp != "" and entry.stamp == before.stamp) or record_now(entry).content == before.content


def list_digest(entries: Iterable[Entry[Any]], about: str = "") -> str:
    """The SHA-256 of which pictures are listed, before any of them is read: names, order and promises."""
    return _sha256(about, *(f"{entry.name}\n{entry.promise}" for entry in entries))


def digest(entries: Sequence[Entry[Any]], contents: Mapping[int, str], about: str = "") -> str:
    """The SHA-256 of pictures in their order: of each its source, its name and its contents.

    Args:
        entries: the pictures.
        contents: the `content` of the `Record` of each that was read, by its place in the list.
        about: what else they stand for, such as the classes of their labels.

    >>> sky = Entry("sky.png", lambda: None, "mine")
    >>> digest([sky], {0: "0a"}) == digest([sky], {0: "0b"})
    False
    """
    pictures = ((entries[index], content) for index, content in contents.items())
    return _sha256(about, *(_sha256(entry.source, entry.name, content) for entry, content in pictures))


def digest_now(entries: Sequence[Entry[Any]], about: str = "") -> str:
    """The `digest` of pictures as they are now; it equals that of a result if not one byte of them has changed."""
    return digest(entries, {index: record_now(entry).content for index, entry in enumerate(entries)}, about)


def _sha256(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
