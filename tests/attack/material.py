"""Small pictures, labels and results to attack with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from PIL import Image

FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "webp": "WEBP", "ppm": "PPM"}
CLASSES = ("sky", "grass")


def picture_bytes(seed: int, form: str = "PNG", size: tuple[int, int] = (40, 32)) -> bytes:
    """A picture of noise as the bytes of a file."""
    file = io.BytesIO()
    pixels(seed, size).save(file, form)
    return file.getvalue()


def pixels(seed: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """A picture of noise."""
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def pictures(folder: Path, count: int = 4) -> Path:
    """A folder of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"good_{i}.png").write_bytes(picture_bytes(i))
    return folder


def labelled(folder: Path, count: int = 4) -> Path:
    """A data set of the user's own: images/, labels/, classes.txt."""
    pictures(folder / "images", count)
    (folder / "labels").mkdir()
    for i in range(count):
        label = np.random.default_rng(100 + i).integers(0, len(CLASSES), (32, 40), np.uint8)
        Image.fromarray(label).save(folder / "labels" / f"good_{i}.png")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def damaged(content: bytes, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """What becomes of a file: cut off, bytes turned over, a hole of zeros, another file's beginning, two files in one."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        kind = ("cut", "flipped", "hole", "beginning", "doubled")[i % 5]
        place, length = int(rng.integers(0, len(content))), int(rng.integers(1, 64))
        if kind == "cut":
            yield f"{kind}-{place}", content[:place]
        elif kind == "flipped":
            data = np.frombuffer(content, np.uint8).copy()
            places = rng.integers(0, len(data), length)
            data[places] ^= rng.integers(1, 256, length, np.uint8)
            yield f"{kind}-{i}", data.tobytes()
        elif kind == "hole":
            yield f"{kind}-{place}", content[:place] + bytes(length) + content[place + length :]
        elif kind == "beginning":
            yield f"{kind}-{i}", rng.bytes(length) + content[length:]
        else:
            yield f"{kind}-{place}", content[:place] + content


def same_bits(left: Path, right: Path) -> None:
    """Two Datasets have the same variables, coordinates and attributes, bit for bit, but for the time of writing."""
    told = {"created", "command", "options"}
    with xr.open_dataset(left, engine="h5netcdf") as a, xr.open_dataset(right, engine="h5netcdf") as b:
        assert list(a.variables) == list(b.variables)
        for name in a.variables:
            assert a[name].dims == b[name].dims and a[name].dtype == b[name].dtype, name
            values = (a[name].values, b[name].values)
            assert values[0].tolist() == values[1].tolist() or values[0].tobytes() == values[1].tobytes(), name
        assert {k: v for k, v in a.attrs.items() if k not in told} == {
            k: v for k, v in b.attrs.items() if k not in told
        }
