"""Reading a text file that a person wrote, in whatever encoding an editor saved it."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from clearclip.errors import UserError

MARKS = {  # the bytes that some editors begin a file with → its encoding; those of UTF-32 begin like those of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 where its first bytes say so; a byte order mark is left out.

    Args:
        path: the file, such as a list of class names or of prompt templates.

    Raises:
        UserError: there is no such file, or its bytes are no text; the message names the first byte in the way.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such text file.")
    content = file.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: byte {error.start} is not text in {encoding.upper()}. "
            "Save the file as UTF-8 (every editor can) and try again."
        ) from error
    if "\0" in text:
        raise UserError(
            f"{file}: character {text.index(chr(0))} is a NUL, so this is not a text file, or UTF-16 without its mark. "
            "Name a text file, saved as UTF-8."
        )
    return text.removeprefix("\ufeff")  # the mark of UTF-8, which only names the encoding


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file that are not blank; raises `UserError` as `read_text` does."""
    return [line for line in read_text(path).splitlines() if line.strip()]


def readable(path: str | os.PathLike[str]) -> str:
    r"""What results call a file: its name as text that can be printed and stored, since a name may be any bytes.

    >>> readable("straße.jpg"), readable("caf\udce9.jpg")
    ('straße.jpg', 'caf\\xe9.jpg')
    """
    return os.fsencode(path).decode(errors="backslashreplace")
