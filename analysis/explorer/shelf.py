"""The shelf: loaded models and the passes that were made with them, shared by all visitors and bounded."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock, RLock
from typing import NamedTuple

from PIL import Image

from analysis.explorer import passes, pictures
from analysis.explorer.passes import Pass
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone

MODELS, BYTES = 4, 2**30  # how many models are held at a time, and about how much of their passes


class Key(NamedTuple):
    """What a pass is found by: the digest of the picture's pixels, the model's name, and the side in pixels."""

    pixels: str
    model: str
    side: int


def digest(picture: Image.Image) -> str:
    """The SHA-256 of a picture's size and pixels."""
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


@dataclass
class Shelf:
    """Models by name, and what each of them made of the last pictures.

    A visitor's picture is found again by its pixels only, so nobody sees another one's. Whoever runs a model, or anything
    that reads hooks or settings shared by the whole process, holds the `lock`: a probe would otherwise report what another
    visitor's picture gave.

    Args:
        loaders: of the models that are offered, by name.
        texts: a temporary folder for text embeddings.
        side: at which models look unless another is chosen; None for `pictures.side`.
        others: loads any other model that a visitor names, without opening files that a name points to, as `load` does;
            None where only those that are offered are allowed.

    >>> import clearclip
    >>> shelf = Shelf({"dino_tiny": lambda: clearclip.load("dino_tiny", device="cpu")}, Path("texts"))
    >>> picture = Image.new("RGB", (64, 64))
    >>> shelf.look("dino_tiny", picture) is shelf.look("dino_tiny", picture.copy())
    True
    """

    loaders: Mapping[str, Callable[[], Backbone]]
    texts: Path
    side: int | None = None
    others: Callable[[str], Backbone] | None = None
    lock: RLock = field(default_factory=RLock)
    _loading: Lock = field(default_factory=Lock)  # a download does not keep others from looking
    _models: OrderedDict[str, Backbone] = field(default_factory=OrderedDict)
    _passes: OrderedDict[Key, Pass] = field(default_factory=OrderedDict)

    def model(self, name: str) -> Backbone:
        """A model that is offered, or any other by its name.

        Raises:
            UserError: there is none of this name, its weights cannot be had, or only those that are offered are allowed.
        """
        with self._loading:
            if name not in self._models:
                self._models[name] = self._loader(name)()
            self._models.move_to_end(name)
            while len(self._models) > MODELS:
                gone, _ = self._models.popitem(last=False)
                with self.lock:
                    self._drop(lambda key, gone=gone: key.model == gone)  # type: ignore[misc]
            return self._models[name]

    def _loader(self, name: str) -> Callable[[], Backbone]:
        if name in self.loaders:
            return self.loaders[name]
        if self.others is None:
            raise UserError(f"model {name!r}: this page offers {', '.join(self.loaders)}.")
        return partial(self.others, name)

    def look(self, name: str, picture: Image.Image, side: int | None = None) -> Pass:
        """What a model makes of the middle of a picture: its trunk runs only if it has not seen these pixels lately.

        Args:
            side: in pixels, a multiple of the model's patch size; None for the usual one.
        """
        model = self.model(name)
        side = side or self.side or pictures.side(model)
        key = Key(digest(picture), name, side)
        with self.lock:
            seen = self._passes.get(key)
            if seen is None or seen.model is not model:
                self._passes[key] = seen = passes.run(model, pictures.square(picture, side))
            self._passes.move_to_end(key)
            while len(self._passes) > 2 and sum(kept.size for kept in self._passes.values()) > BYTES:
                self._passes.popitem(last=False)
            return seen

    def forget(self, picture: Image.Image) -> None:
        """Drop everything that was made of a picture."""
        pixels = digest(picture)
        with self.lock:
            self._drop(lambda key: key.pixels == pixels)

    def _drop(self, which: Callable[[Key], bool]) -> None:
        for key in list(filter(which, self._passes)):
            del self._passes[key]
