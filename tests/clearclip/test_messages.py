"""What libraries raise, as people read it; what is left are bugs."""

import errno
import json

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from clearclip.errors import UserError
from clearclip.messages import message


def raised(action):
    with pytest.raises(Exception) as caught:
        action()
    return caught.value


def damaged(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)))
    return path


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("take another."), "take another."),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "out: Permission denied"),
        (OSError("Unable to synchronously open file (truncated file)"), "truncated file"),
        (OSError(errno.ENOSPC, "No space left on device", "a.nc"), "a.nc: no space is left to write"),
        (OSError("file write failed: errno = 28, error message = 'No space left on device'"), "no space is left"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "--batch-size"),
        (MemoryError(), "--batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9000000000 bytes."), "9.0 GB"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."), "--precision"),
        (UnicodeDecodeError("utf-8", b"\xff\xfe", 0, 1, "invalid start byte"), "invalid start byte at byte 0"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"), "PYTHONIOENCODING"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (ModuleNotFoundError("No module named 'transformers'", name="transformers"), "clearclip-analysis[blip]"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_limit_or_a_mistake_has_a_message(error, words):
    assert words in message(error)


@pytest.mark.parametrize(
    "action",
    [
        lambda path: h5py.File(path),
        lambda path: Image.open(path).load(),
        lambda path: safe_open(path, "pt"),
        lambda path: json.loads("{"),
        lambda path: np.empty((2**60,)),
        lambda path: torch.empty(2**46),
        lambda path: torch.empty(2**40, 2**40),
    ],
    ids=["h5py", "Pillow", "safetensors", "JSON", "numpy", "torch", "torch, size overflow"],
)
def test_what_libraries_really_raise(action, tmp_path):
    assert message(raised(lambda: action(damaged(tmp_path, "file"))))


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("x"), KeyError("x"), ValueError("x"), AssertionError(), ImportError("x", name="clearclip.x")],
    ids=lambda error: type(error).__name__,
)
def test_all_else_is_a_bug(error):
    assert message(error) is None
