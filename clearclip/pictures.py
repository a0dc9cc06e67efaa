"""Reading pictures: whatever file a person has becomes an upright RGB image."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from clearclip.errors import UserError

LONGEST_STRIP = 100  # long side over short side: a thinner strip outgrows memory when its short side is resized
NOT_PICTURES = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS", "PDF"}  # known to Pillow, not decoded by it alone


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
    try:
        if Path(path).exists() and not Path(path).is_file():  # reading a pipe would wait forever
            raise ValueError("not a regular file")
        # by file object: opened by path, Pillow maps uncompressed TIFF into memory with turned sides exchanged
        with Path(path).open("rb") as file, Image.open(file) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width}×{image.height} are more than {Image.MAX_IMAGE_PIXELS} pixels")
            picture = upright_rgb(image)
    except Exception as error:  # Pillow's decoders raise all kinds on broken files, RuntimeError (AVIF) among them
        reason = "no picture that Pillow can read" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise BadImage(f"{os.fspath(path)}: {reason or type(error).__name__}") from error
    width, height = picture.size
    if max(width, height) > LONGEST_STRIP * min(width, height):
        raise BadImage(f"{os.fspath(path)}: {width}×{height} is a strip thinner than 1:{LONGEST_STRIP}")
    return picture


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
    Image.init()
    suffixes = {s for s, kind in Image.registered_extensions().items() if kind in Image.OPEN} - {
        s for s, kind in Image.registered_extensions().items() if kind in NOT_PICTURES
    }
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
