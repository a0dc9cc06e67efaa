"""What a person is told about an exception: a mistake of theirs, a file that cannot be used, a limit of the machine, or a bug."""

from __future__ import annotations

import errno
import re
import traceback
from json import JSONDecodeError

from clearclip.errors import UserError

OURS = ("analysis", "clearclip", "figures")
EXTRAS = {
    "transformers": "blip",
    "webdataset": "scale",
    "datasets": "scale",
    "pyarrow": "scale",
}  # modules that only an extra of the installation brings
READERS = (
    "h5netcdf",
    "h5py",
    "PIL",
    "safetensors",
    "safetensors_rust",
    "zipfile",
    "zlib",
)  # what they raise is about a file
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_MEMORY = re.compile(  # as torch, CUDA, Metal and numpy say it; not all of them have an exception of its own for it
    r"(out of|enough|allocate) memory|bad_alloc|[Uu]nable to allocate|Invalid buffer size|array is too big"
    r"|(Storage size calculation|numel: integer multiplication) overflow|Maximum allowed dimension exceeded"
)
SMALLER = (
    "Make it smaller: --batch-size 1, a smaller --image-size or --short-side, --precision bf16 where the device has it, "
    "fewer --layers or classes at once; or take another --device."
)


def message(error: BaseException) -> str | None:
    """What a person is told about a mistake, an unusable file or a limit of the machine; None if it is a bug.

    >>> message(FileNotFoundError(2, "No such file or directory", "photos"))
    'photos: No such file or directory'
    >>> message(ZeroDivisionError("division by zero")) is None
    True
    """
    text = " ".join(str(error).split())
    match error:
        case UserError():
            return str(error)
        case _ if isinstance(error, MemoryError) or NO_MEMORY.search(text):
            return f"not enough memory{_asked_for(text)}. {SMALLER}"
        case OSError(errno=number) if number in FULL or "No space left" in text:
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}no space is left to write. Free some, and repeat the command: what is written is kept."
        case OSError(filename=name) if name is not None:
            return f"{name}: {error.strerror}"
        case OSError():
            return f"a file, device or connection cannot be used: {text or type(error).__name__}"
        case UnicodeDecodeError():
            return f"a text is not in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8."
        case UnicodeEncodeError():
            return f"a text cannot be written in {error.encoding}: set PYTHONIOENCODING=utf-8, or rename what it names."
        case JSONDecodeError():
            return f"a text that should be JSON is not: {text}"
        case RecursionError():
            return f"a file or an option is nested too deeply: {text}"
        case ImportError() if _package(error.name or "") not in OURS:
            extra = EXTRAS.get(_package(error.name or ""))
            package = f"clearclip-analysis[{extra}]" if extra else "clearclip-analysis"
            return f'{text}. Complete the installation: python -m pip install "{package}"'
    if library := _reader(error):
        return f"{library} cannot use a file: {kind(error)}"
    return None


def _asked_for(text: str) -> str:
    """How much was asked for at once, if the library says it.

    >>> _asked_for("can't allocate memory: you tried to allocate 43347870720 bytes."), _asked_for("out of memory")
    (' (43.3 GB were asked for at once)', '')
    """
    asked = re.search(r"allocate (\d+) bytes", text)
    return f" ({int(asked[1]) / 1e9:.1f} GB were asked for at once)" if asked else ""


def _reader(error: BaseException) -> str | None:
    """The library that was reading or writing a file for us when it raised, whatever it raised."""
    library = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = _package(frame.f_globals.get("__name__", ""))
        library = None if package in OURS else package if package in READERS else library
    own = _package(type(error).__module__)  # libraries in Rust have no frames
    return library or (own if own in READERS else None)


def _package(module: str) -> str:
    return module.partition(".")[0]


def kind(error: BaseException) -> str:
    """Type and text of an exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
