"""The pictures that published numbers were measured on, found under a folder of the user; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from clearclip.errors import UserError
from clearclip.models.checkpoint import file_digest
from clearclip.pictures import find_images, photographs, read_image

MOST = 16  # photographs, where any will do


class Missing(UserError):
    """What a check needs is not here, so that it is skipped by name."""


@dataclass(frozen=True)
class Pictures:
    """What the user has.

    Args:
        folder: searched recursively; None for none.
        imagenet: the folder of ImageNet's validation pictures, one folder for each class; None for none.
    """

    folder: Path | None = None
    imagenet: Path | None = None

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """File name without its suffix → files."""
        named: dict[str, list[Path]] = {}
        for path in [] if self.folder is None else find_images(self.folder):
            named.setdefault(path.stem, []).append(path)
        return named

    def named(self, name: str, sha256: str = "") -> Image.Image:
        """A picture by its file name without suffix.

        Raises:
            Missing: it is not there, or only another file of that name.
        """
        candidates = self._files.get(name, [])
        for path in candidates:
            if not sha256 or file_digest(path) == sha256:
                return read_image(path)
        if candidates:
            raise Missing(f"{candidates[0]} is another picture than the published one")
        raise Missing(f"picture {name} is not there" + ("" if self.folder else ": name its folder with --pictures"))

    def natural(self) -> list[Image.Image]:
        """Photographs, whichever: the user's, or else scikit-image's."""
        own = [path for paths in self._files.values() for path in paths][:MOST]
        return [read_image(path) for path in own] or photographs()
