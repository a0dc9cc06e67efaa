"""The tensors of a TorchScript archive, such as OpenAI's `ViT-B-16.pt`, without running or compiling its code.

An archive is a zip file of a pickle (`data.pkl`), raw numbers (`data/0`, …) and source text (`code/`), which is never read.
The pickle may name tensors, lists and the archive's own classes; a class becomes an empty holder of attributes, whatever
its code says. Any other name ends the reading before it is looked up. Numbers are read from uncompressed entries only, and
a tensor cannot reach beyond its entry, so that a small file cannot ask for much memory.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which has constants beside its data, and not a plain checkpoint."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_archive(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of the archive's module, named as its state dict names them.

    Raises:
        Exception: of many kinds, for the file is damaged or names something that is not allowed.
    """
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        module = _Unpickler(archive, pickled.removesuffix("data.pkl")).load()
    if not isinstance(module, _Module):
        raise pickle.UnpicklingError("the archive holds no module")
    return dict(_tensors(module))


class _Module:
    """What every class of an archive becomes: attributes, nothing else."""


class _Tensor:
    """Stands for torch's function of this purpose: a view on one storage, within its bounds."""

    __slots__ = ()

    def __call__(self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        return storage.as_strided(size, stride, offset)


class _Value:
    """Stands for TorchScript's typed lists and tagged values: the value itself."""

    __slots__ = ()

    def __call__(self, value: Any, *_: Any) -> Any:
        return value


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(_bytes(archive, f"{root}data.pkl")))
        self.archive, self.root = archive, root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return type(name, (_Module,), {})  # a new one each time, so that no file can change what the next one gets
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor()
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":
            return _Value()
        if module == "torch" and name in DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, key, *_ = pid
        if key not in self.storages:
            numbers = bytearray(_bytes(self.archive, f"{self.root}data/{key}"))
            dtype = DTYPES[kind]
            self.storages[key] = torch.frombuffer(numbers, dtype=dtype) if numbers else torch.empty(0, dtype=dtype)
        return self.storages[key]


def _bytes(archive: zipfile.ZipFile, name: str) -> bytes:
    """One entry, which is as long as it is in the file."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(f"{name} is compressed, which entries of an archive of torch never are")
    return archive.read(name)


def _tensors(module: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a module and of the modules in it."""
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
