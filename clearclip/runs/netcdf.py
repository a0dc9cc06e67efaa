"""NetCDF files of strangers: opened only if they are what they seem, fit into memory and read no other file.

HDF5 can name other files (external links, external storage, virtual datasets) and declare sizes that it does not hold, so
both are looked at before any value is read. Whatever h5py, h5netcdf and xarray stumble over in a damaged file becomes one
message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import h5py
import psutil
import xarray as xr

from clearclip.errors import UserError
from clearclip.runs import checksum

HDF5 = b"\x89HDF\r\n\x1a\n"
PART = 0.5  # of the machine's memory that a Dataset may take


@contextmanager
def opened(path: Path) -> Iterator[xr.Dataset]:
    """A Dataset whose values are read when they are asked for.

    Raises: `UserError` if the file is missing, is not a NetCDF file, is damaged, reads other files or is beyond memory; also
    for what happens inside the `with`.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: a result is one .nc file.")
    if not path.is_file():
        raise UserError(f"{path}: no such result file.")
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5))
        if start != HDF5:
            seems = (
                "it is empty" if not start else "it is NetCDF 3" if start.startswith(b"CDF") else "it begins otherwise"
            )
            raise UserError(f"{path} is not a NetCDF 4 file: {seems}.")
        if checksum.broken(path):
            raise UserError(f"{path} is damaged: its checksum does not fit its content.")
        _inspect(path)
        # only text and numbers are written, so nothing is taken for a time
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as dataset:
            yield dataset
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory.") from error
    except Exception as error:  # of a damaged file, the libraries below raise whatever they stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a readable NetCDF file: {reason[:300]}.") from error


def _inspect(path: Path) -> None:
    """Refuse what h5netcdf must not even look at: links, other files, other types, sizes beyond memory."""
    total = 0
    with h5py.File(path, "r") as file:
        for name in file:
            item = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
            if not isinstance(item, h5py.Dataset):
                raise UserError(f"{path}: {name} is a link or a group; a result has variables only.")
            properties = item.id.get_create_plist()
            if item.is_virtual or properties.get_external_count():
                raise UserError(f"{path}: {name} lies in another file, and only this one is read.")
            if item.dtype.kind not in "iufSO" or (item.dtype.kind == "O" and not h5py.check_string_dtype(item.dtype)):
                raise UserError(f"{path}: {name} is of type {item.dtype}; a result has numbers and text only.")
            if h5py.check_enum_dtype(item.dtype) or item.shape is None:
                raise UserError(f"{path}: {name} is an enumeration or empty; a result has numbers and text only.")
            total += item.dtype.itemsize * max(prod(item.shape), prod(item.chunks or ()))
    limit = PART * psutil.virtual_memory().total
    if total > limit:
        raise UserError(
            f"{path} declares {total / 2**30:,.1f} GiB, more than {PART:.0%} of this machine's memory "
            f"({limit / 2**30:,.1f} GiB): choose fewer pictures, layers or models."
        )
