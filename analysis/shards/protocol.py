"""The protocol of an export: protocol.json for programs, protocol.md for people, pictures.csv for where tokens come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.shards import shard
from analysis.shards.description import ORDER, description
from analysis.shards.plan import FORMAT, VERSION, Plan
from analysis.shards.shard import ListedPicture, Written
from clearclip import outputs
from clearclip.entries import digest
from clearclip.errors import UserError
from clearclip.models.checkpoint import file_digest
from clearclip.runs.results import provenance

JSON, TEXT, PICTURES = FILES = ("protocol.json", "protocol.md", "pictures.csv")
NEEDED: dict[str, type] = {  # what readers rely on
    "layers": list,
    "features": list,
    "dtype": str,
    "width": int,
    "length": int,
    "shards": list,
    "pictures_sha256": str,
}
OF_SHARD: dict[str, type] = {"file": str, "sha256": str, "bytes": int, "length": int}


def write(folder: Path, plan: Plan, shards: Sequence[Written], command: str | None) -> dict[str, Any]:
    """Write what an export is, and return it; where all of that stands there already, nothing is written.

    Args:
        folder: of the export.
        plan: what was exported.
        shards: all of them, in their order.
        command: the command line that does the same.

    Raises: `UserError` if not one picture could be used, or a shard was changed meanwhile.
    """
    tables = [_pictures_of(written) for written in shards]
    pictures = [picture for table in tables for picture in table]
    used = [sum(not picture.skipped for picture in table) for table in tables]
    if not sum(used):
        for written in shards:  # which hold nothing
            written.path.unlink()
        raise UserError("not one picture could be used.")
    rows = pd.DataFrame(pictures).drop(columns="number")
    table = rows.assign(shard=[number for number, part in enumerate(tables) for _ in part]).to_csv(index=False)
    about = {
        **plan.facts,
        "token_order": ORDER,
        "images": sum(used),
        "skipped": [picture.skipped for picture in pictures if picture.skipped],
        "image_list_sha256": digest(plan.entries, {picture.number: picture.sha256 for picture in pictures}),
        "pictures_sha256": hashlib.sha256(table.encode()).hexdigest(),
        "length": sum(used) * plan.per_picture,
        "shards": [
            {
                "file": written.path.name,
                "sha256": written.sha256,
                "bytes": written.path.stat().st_size,
                "length": count * plan.per_picture,
            }
            for written, count in zip(shards, used, strict=True)
        ],
    }
    before = read_json(folder) or {}
    if {name: before.get(name) for name in about} == about and _is_table(folder, about) and (folder / TEXT).is_file():
        return before
    about |= provenance(command)
    outputs.write(folder / PICTURES, table)
    outputs.write(folder / TEXT, description(about))
    outputs.write(folder / JSON, json.dumps(about, indent=1))
    return about


def read(folder: Path) -> dict[str, Any]:
    """The protocol of a finished export, checked against what it says of its files without reading them.

    Raises: `UserError` if there is none, it is of a newer version, says something that cannot be, or files are missing.
    """
    about = read_json(folder)
    if about is None and shard.shards_in(folder):
        raise UserError(
            f"{folder / JSON} is not there yet: repeat the command that began this export, which finishes it."
        )
    if about is None:
        raise UserError(f"{folder / JSON}: no such file. Name a folder that python -m analysis.export has written.")
    complaint = _complaint(about, NEEDED) or next(filter(None, map(_of_shard, about["shards"])), "")
    if not complaint and sum(part["length"] for part in about["shards"]) != about["length"]:
        complaint = "its shards do not have as many tokens together as it says"
    if complaint:
        raise UserError(f"{folder / JSON}: {complaint}. Repeat the command that wrote it, into another folder.")
    for part in about["shards"]:
        path = folder / part["file"]
        if not path.is_file() or path.stat().st_size != part["bytes"]:
            wrong = "has another size" if path.is_file() else "is missing"
            raise UserError(f"{path} {wrong}: repeat the command that {folder / JSON} names, which writes it anew.")
    return about


def read_json(folder: Path) -> dict[str, Any] | None:
    """What stands in protocol.json; None if there is no such file.

    Raises: `UserError` for a file of something else, or of a newer version.
    """
    path = folder / JSON
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_bytes())
        program, _, version = str(about["format"]).rpartition(" ")
        newer = program == FORMAT and int(version) > VERSION
        ours = program == FORMAT and int(version) == VERSION
    except (LookupError, TypeError, ValueError, RecursionError):
        ours = newer = False
    if newer:
        raise UserError(
            f"{path} has the format {FORMAT} {version}: take a newer clearclip-analysis, since this one reads {VERSION}."
        )
    if not ours:
        raise UserError(f"{path} is not the protocol of exported tokens, or is damaged: name another folder.")
    return about


def refuse_foreign(folder: Path) -> None:
    """Raise `UserError` for files of other origin in a folder without an export, which would be replaced."""
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise UserError(f"{folder} has a file {there[0]} that no export has written: name another --output.")


def picture_names(folder: Path, about: Mapping[str, Any]) -> list[str]:
    """What the pictures are called, by their places in the list; raises `UserError` if the table was changed."""
    if not _is_table(folder, about):
        raise UserError(
            f"{folder / PICTURES} is missing or was changed: repeat the command that {folder / JSON} names, which writes it anew."
        )
    table = pd.read_csv(folder / PICTURES, usecols=["name"], dtype=str, keep_default_na=False)
    return table["name"].tolist()


def _is_table(folder: Path, about: Mapping[str, Any]) -> bool:
    """Whether the table of pictures is the one that was written."""
    path = folder / PICTURES
    return path.is_file() and file_digest(path) == about["pictures_sha256"]


def _pictures_of(written: Written) -> tuple[ListedPicture, ...]:
    header = shard.read_header(written.path)
    if header is None:
        raise UserError(f"{written.path} was changed while the others were written: repeat the command.")
    return header.pictures


def _complaint(part: Any, needed: Mapping[str, type]) -> str:
    """The first thing that a part of a protocol lacks, or nothing."""
    if not isinstance(part, dict):
        return f"{str(part)[:40]!r} stands where an object is expected"
    wrong = [name for name, kind in needed.items() if type(part.get(name)) is not kind]
    return f"it lacks {wrong[0]}, or has something else there" if wrong else ""


def _of_shard(part: Any) -> str:
    """What is wrong with the description of a shard, or nothing; its file lies in the folder itself."""
    if complaint := _complaint(part, OF_SHARD):
        return complaint
    if not shard.NAME.fullmatch(part["file"]) or part["length"] < 0:
        return f"{part['file'][:80]!r} with {part['length']} tokens is not a shard"
    return ""
