"""Reading pictures: whatever file a person has becomes an upright RGB image."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from clearclip.contents import opened
from clearclip.errors import UserError

LONGEST_STRIP = 100  # long side over short side: a thinner strip outgrows memory when its short side is resized
NATURAL = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")  # come with scikit-image
NOT_PICTURES = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS", "PDF"}  # known to Pillow, not decoded by it alone


MOST_PIXELS = 2**30  # what `pixel_limit` can allow; several bytes of memory go with each


class BadImage(UserError):
    """A file that should be a picture and cannot be used as one."""


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read one picture as upright 8-bit RGB.

    EXIF orientation is applied; palette, grey, CMYK and 1-bit pictures are converted; 16-bit and float grey is scaled
    to 8 bits instead of being clipped; transparent pixels lie on white; of an animation the first frame is taken.

    Raises `BadImage` with the file's name for anything that is not a readable picture, and for a strip thinner than 1:100.

    >>> from importlib.resources import files
    >>> read_image(files("skimage.data") / "astronaut.png").size
    (512, 512)
    """
    return _picture(os.fspath(path), partial(_regular, path))


def decode_image(content: bytes, name: str) -> Image.Image:
    """A picture from the bytes of a file, by the rules of `read_image`; `name` is what messages call it.

    >>> decode_image(b"no picture", "a.png")
    Traceback (most recent call last):
    clearclip.pictures.BadImage: a.png: no picture that Pillow can read
    """
    return _picture(name, partial(io.BytesIO, content))


@contextmanager
def _regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    if Path(path).exists() and not Path(path).is_file():  # reading a pipe would wait forever
        raise ValueError("not a regular file")
    with opened(path) as file:
        yield file


def _picture(name: str, file_of: Callable[[], AbstractContextManager[BinaryIO]]) -> Image.Image:
    try:
        # by file object: opened by path, Pillow maps uncompressed TIFF into memory with turned sides exchanged
        with file_of() as file, Image.open(file, formats=raster_formats()) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(
                    f"{image.width}×{image.height} are more than {Image.MAX_IMAGE_PIXELS} pixels"
                )
            picture = upright_rgb(image)
    except Exception as error:  # Pillow's decoders raise all kinds on broken files, RuntimeError (AVIF) among them
        reason = "no picture that Pillow can read" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        if isinstance(error, Image.DecompressionBombError):
            reason += "; clearclip segment reads larger pictures with --max-pixels"
        raise BadImage(f"{name}: {reason or type(error).__name__}") from error
    width, height = picture.size
    if max(width, height) > LONGEST_STRIP * min(width, height):
        raise BadImage(f"{name}: {width}×{height} is a strip thinner than 1:{LONGEST_STRIP}")
    return picture


def photographs() -> list[Image.Image]:
    """A few photographs of everyday things, where any will do."""
    return [read_image(Path(str(files("skimage.data") / name))) for name in NATURAL]


@contextmanager
def pixel_limit(pixels: int | None) -> Iterator[None]:
    """Inside, pictures of up to so many pixels are read, instead of Pillow's 89,478,485; None changes nothing.

    Raises `UserError` for a limit that is not in 1 … 1,073,741,824.
    """
    if pixels is not None and not 1 <= pixels <= MOST_PIXELS:
        raise UserError(f"max pixels {pixels}: a number from 1 to {MOST_PIXELS}.")
    usual = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = usual if pixels is None else pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def upright_rgb(image: Image.Image) -> Image.Image:
    """A PIL image of any mode as upright 8-bit RGB, by the rules of `read_image`; ValueError for non-finite pixels."""
    return _to_rgb(ImageOps.exif_transpose(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion clips these at 255
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it has pixels that are not finite numbers")
        if values.min() >= 0 and (image.mode.startswith("I;16") or values.max() > 255):
            values = values / 65535 * 255 if values.max() <= 65535 else values / values.max() * 255
        elif image.mode == "F" and values.min() >= 0 and values.max() <= 1:
            values = values * 255
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


@cache
def raster_formats() -> tuple[str, ...]:
    """What Pillow decodes itself; other formats are never opened, whatever a file is called, for they start programs.

    >>> "PNG" in raster_formats(), "EPS" in raster_formats()
    (True, False)
    """
    Image.init()
    return tuple(form for form in Image.ID if form in Image.OPEN and form not in NOT_PICTURES)


def picture_suffixes() -> set[str]:
    """How the names of pictures end, in lower case.

    >>> ".jpg" in picture_suffixes(), ".pdf" in picture_suffixes()
    (True, False)
    """
    formats = raster_formats()
    return {suffix for suffix, form in Image.registered_extensions().items() if form in formats}


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """All pictures below a folder, in the order of their names; hidden files and linked folders are passed over.

    Raises `UserError` if the folder does not exist or holds no file with the suffix of a picture.
    """
    if folder == "":  # which would be the folder that the program runs in
        raise UserError("a folder without a name: write . for the one that you are in.")
    root = Path(folder)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise UserError(f"{root}: no such file or folder. Name a folder with pictures, or single files.")
    suffixes = picture_suffixes()
    files = sorted(_walk(root, suffixes), key=lambda path: path.relative_to(root).as_posix())
    if not files:
        raise UserError(
            f"{root}: no pictures in this folder or below it (looked for {', '.join(sorted(suffixes)[:12])}, …)."
        )
    return files


def _walk(root: Path, suffixes: set[str]) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(folder, name)
