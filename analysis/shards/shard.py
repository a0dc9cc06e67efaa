"""One shard: a safetensors file of tokens that says in its header what it is, and in its name which bytes it has.

As in torch.hub, the name of a file holds the first digits of the SHA-256 of its content. So a shard that was finished before a
run was interrupted can be told from a damaged one without any other file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from clearclip import outputs

KEY = "clearclip"  # the only key in a header: the library writes several in another order each time
NAME = re.compile(r"shard_([0-9]{5,})-([0-9a-f]{16})\.safetensors")
PLACES = ("picture", "token", "row", "column")  # whole numbers that say where each row of a shard comes from


class ListedPicture(NamedTuple):
    """One picture of an export: its place in the list, what it was, and why it was skipped, if it was."""

    number: int
    name: str
    source: str
    sha256: str
    skipped: str


class Header(NamedTuple):
    """What a shard says of itself: which of all it is, the facts of its export, and its pictures."""

    number: int
    facts: dict[str, Any]
    pictures: tuple[ListedPicture, ...]


class Written(NamedTuple):
    """A finished shard and the SHA-256 of its content."""

    path: Path
    sha256: str


def tensor_name(layer: int, feature: str) -> str:
    """What the tokens of a layer and feature are called in every shard.

    >>> tensor_name(6, "X_sum")
    'X_sum.6'
    """
    return f"{feature}.{layer}"


def write(folder: Path, header: Header, tensors: Mapping[str, Tensor]) -> Written:
    """Write a shard, all of it or nothing, under the name that its content gives it.

    Raises: `outputs.Unwritable` if that is not possible.
    """
    content = save(dict(tensors), {KEY: json.dumps(header._asdict())})
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / f"shard_{header.number:05}-{sha256[:16]}.safetensors"
    outputs.write(path, content)
    return Written(path, sha256)


def read_header(path: Path) -> Header | None:
    """What a shard says of itself; None for a file that is not a shard, or is damaged where this stands."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
        pictures = tuple(ListedPicture(*picture) for picture in about["pictures"])
        return Header(int(about["number"]), dict(about["facts"]), pictures)
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError):
        return None


def fits_its_name(shard: Written, header: Header) -> bool:
    """Whether the SHA-256 of a file's content, and the number in its header, are those of its name."""
    name = NAME.fullmatch(shard.path.name)
    return name is not None and (int(name[1]), name[2]) == (header.number, shard.sha256[:16])


def shards_in(folder: Path) -> dict[int, Path]:
    """The files in a folder that are called as shards are, by their numbers."""
    named = ((NAME.fullmatch(path.name), path) for path in sorted(folder.glob("shard_*")))
    return {int(name[1]): path for name, path in named if name is not None}
