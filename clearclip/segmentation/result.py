"""What a Segmenter gives back: the labels and scores of one picture, their files, and several of them as one figure."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clearclip import outputs
from clearclip.errors import UserError
from clearclip.methods.titles import method_label
from clearclip.segmentation.files import ENDS
from clearclip.segmentation.overlay import Row, class_colors, draw_rows, explained, tinted, titles
from clearclip.segmentation.scoremaps import ScoreMaps
from clearclip.segmentation.style import save

DRAWN = 2**22  # pixels of a picture in a figure, which shows far fewer


@dataclass(frozen=True)
class Segmentation:
    """One picture's result: labels (H, W), scores (classes, H, W) in [0, 1], and what they mean."""

    picture: Image.Image
    labels: np.ndarray  # (H, W) uint8 or uint16, the index of the class
    score_maps: ScoreMaps  # the scores in pieces, made when they are asked for
    classes: tuple[str, ...]
    recipe: str
    model: str
    random_weights: bool
    threshold: str  # how pixels became background, in words

    @cached_property
    def scores(self) -> np.ndarray:
        """The scores of all classes, (C, H, W) float32: softmax over all names, the highest name of each class.

        Raises: `UserError` where they are more than 4 GiB; `score` and `save` have no such limit.
        """
        return self.score_maps.whole()

    def score(self, name: str) -> np.ndarray:
        """The scores of one class, (H, W) float32; raises `UserError` for a name that is no class."""
        if name not in self.classes:
            raise UserError(f"{name!r} is no class of this result: choose from {', '.join(self.classes)}.")
        return self.score_maps.of(self.classes.index(name))

    @property
    def shares(self) -> dict[str, float]:
        """The share of the picture that each class covers."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        return dict(zip(self.classes, (counts / self.labels.size).tolist(), strict=True))

    def pixel_accuracy(self, truth: np.ndarray) -> float:
        """The share in % of the labelled pixels that have their true class; NaN if no pixel is labelled.

        Args:
            truth: true labels (H, W); what is no index of a class counts as not labelled.
        """
        known = (truth >= 0) & (truth < len(self.classes))
        return float(100 * (self.labels == truth)[known].mean()) if known.any() else math.nan

    def __repr__(self) -> str:
        covered = sorted(self.shares.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {share:.0%}" for name, share in covered if share >= 0.005)
        random = ", RANDOM WEIGHTS" if self.random_weights else ""
        return f"Segmentation({self.model}, {self.recipe}{random}: {shares})"

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.figure().savefig(stream, format="png", dpi=150)
        return stream.getvalue()

    def figure(self) -> Figure:
        """The picture with its classes laid over it, and a legend."""
        return side_by_side([{self.recipe: self}])

    def save(self, folder: str | os.PathLike[str], name: str) -> list[Path]:
        """Write `name`.png (labels as a palette picture), `name`.npz (labels, scores, names) and `name`_overlay.png.

        The scores are float16, (C, H, W), written piece by piece, so that memory does not grow with their number.
        """
        paths = [Path(folder, name + end) for end in ENDS]
        if len(self.classes) <= 256:
            image = Image.fromarray(self.labels.astype(np.uint8)).convert("P")
            image.putpalette((class_colors(self.classes) * 255).round().astype(np.uint8).tobytes())
        else:
            image = Image.fromarray(self.labels)
        text = PngInfo()
        origin = "RANDOM WEIGHTS, the picture means nothing" if self.random_weights else "classes from 0"
        text.add_itxt("Description", f"{self.model}, {self.recipe}, {origin}: {', '.join(self.classes)}")
        labels, arrays = io.BytesIO(), io.BytesIO()
        image.save(labels, "png", pnginfo=text)
        facts = {"classes": self.classes, "recipe": self.recipe, "model": self.model, "threshold": self.threshold}
        np.savez(
            arrays,
            labels=self.labels,
            random_weights=self.random_weights,
            **{key: np.array(value) for key, value in facts.items()},  # type: ignore[arg-type]
        )
        outputs.write(paths[0], labels.getbuffer())
        with outputs.opened(paths[1]) as file:
            file.write(arrays.getbuffer())
            with zipfile.ZipFile(file, "a") as archive, archive.open("scores.npy", "w", force_zip64=True) as scores:
                self.score_maps.write(scores)
        save(self.figure(), paths[2])
        return paths


def overlaid(result: Segmentation) -> np.ndarray:
    """The picture in gray with its classes in color over it, (H, W, 3) in [0, 1]."""
    return tinted(np.asarray(result.picture), result.labels, class_colors(result.classes))


def side_by_side(results: Sequence[Mapping[str, Segmentation]], truth: Sequence[np.ndarray] | None = None) -> Figure:
    """One row per picture: the photo, the true labels if given, then every recipe; one legend of the visible classes.

    Args:
        results: for each picture its results by recipe, as `Segmenter.each` gives them.
        truth: true labels (H, W) of each picture; with them, each recipe's pixel accuracy stands under its column.
    """
    first = next(iter(results[0].values()))
    rows = [_row(by_recipe, None if truth is None else truth[i]) for i, by_recipe in enumerate(results)]
    title = f"{first.model} · RANDOM WEIGHTS, the picture means nothing" if first.random_weights else first.model
    width = 1.9 if len(titles(rows[0])) > 2 else 2.6
    return draw_rows(rows, explained(rows, first.classes, len(first.classes)), title, first.random_weights, width)


def _row(by_recipe: Mapping[str, Segmentation], truth: np.ndarray | None) -> Row:
    """The row of one picture, thinned out where it has more pixels than a figure could show."""
    picture = next(iter(by_recipe.values())).picture
    step = math.ceil(math.sqrt(picture.width * picture.height / DRAWN))
    results = {method_label(name): result for name, result in by_recipe.items()}
    maps = {name: result.labels[::step, ::step] for name, result in results.items()}
    pixels = np.asarray(picture if step == 1 else picture.reduce(step))
    if truth is None:
        return Row(pixels, maps)
    accuracy = {name: result.pixel_accuracy(truth) for name, result in results.items()}
    return Row(
        pixels,
        maps,
        truth[::step, ::step],
        accuracy={name: value for name, value in accuracy.items() if not math.isnan(value)},
    )
