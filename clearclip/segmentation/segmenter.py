"""Segmenter: any picture, any class names → labels, scores, overlay."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.filters import threshold_otsu
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import Recipe
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.pictures import read_image, upright_rgb
from clearclip.segmentation.labelling import class_scores
from clearclip.segmentation.result import Segmentation
from clearclip.segmentation.text import class_names, embed
from clearclip.segmentation.windows import Encoded, PatchLogits, Windows, logits_of_windows, resize

BACKGROUND = "background"

Picture = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor


class Segmenter:
    """Segments any picture into the classes you name, with one or several recipes from one pass through the model.

    Args:
        model: a `Backbone` with a text tower, a live module, or a name.
        classes: "horse|pony, grass, sky" or a list; several names of one class share it.
        recipe: a name or `Recipe`, or several of them.
        background: add a class "background" (index 0), which also takes every pixel whose best score is below threshold.
        threshold: a score in [0, 1]; "auto" finds one for each picture (Otsu); 0 leaves every pixel to its best class.
        windows: sizes of the sliding windows; by default the published protocol, see `Windows`.
        prompts: templates, see `clearclip.segmentation.text.templates`. cache: where text embeddings are kept.
        proxy: a second model for recipes that need one. batch_size: windows in one forward pass.
        norms: the logits also hold the Frobenius norms of X_res and X_attn.

    Raises `UserError` for unknown recipes, classes that cannot be read, or a model that cannot serve.

    >>> import clearclip
    >>> model = clearclip.load("clip_vitb32", random=True)
    >>> segmenter = Segmenter(model, "horse, grass, sky", prompts="photo", windows=Windows(64, 128, 64, 32))
    >>> segmenter(Image.new("RGB", (50, 40))).labels.shape
    (40, 50)
    """

    def __init__(
        self,
        model: ModelLike,
        classes: str | Sequence[str | Sequence[str]],
        recipe: str | Recipe | Iterable[str | Recipe] = "clearclip",
        background: bool = False,
        threshold: float | str = 0.0,
        windows: Windows | None = None,
        prompts: str | Sequence[str] = "imagenet",
        cache: Path | None = None,
        proxy: ModelLike | None = None,
        batch_size: int = 8,
        norms: bool = False,
    ) -> None:
        named = class_names(classes)
        if background and named[0][0] != BACKGROUND:
            named = [[BACKGROUND], *named]
        if threshold != "auto" and not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
            raise UserError(f'threshold {threshold!r}: a score between 0 and 1, or "auto".')
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: at least 1.")
        if threshold and not background:
            raise UserError("a threshold turns pixels into background, so it needs background=True.")
        chosen = [recipe] if isinstance(recipe, (str, Recipe)) else list(recipe)
        self.model, self.threshold, self.batch_size, self.norms = as_backbone(model), threshold, batch_size, norms
        self.encoder = DenseEncoder(self.model, chosen, proxy)
        self.windows = windows or Windows.of(self.model)
        self.queries = embed(self.model, named, prompts, cache)

    def __call__(self, image: Picture | Sequence[Picture]) -> Any:
        """Segment a path, PIL image, array (H, W, 3) uint8, tensor (3, H, W), or a list of them, with the first recipe.

        Returns a `Segmentation`, or a list of them for a list.
        """
        results = [next(iter(result.values())) for result in self.each(image)]
        return results if isinstance(image, (list, tuple)) else results[0]

    def each(self, image: Picture | Sequence[Picture]) -> list[dict[str, Segmentation]]:
        """As a call, with all recipes: for each picture a `Segmentation` by recipe name."""
        given: Sequence[Any] = image if isinstance(image, (list, tuple)) else [image]
        pictures = [as_picture(one) for one in given]
        return [
            {name: self._segmentation(picture, name, logits) for name, logits in by_recipe.items()}
            for picture, by_recipe in zip(pictures, self.logits(pictures), strict=True)
        ]

    @torch.inference_mode()
    def logits(self, pictures: Sequence[Image.Image]) -> Iterator[dict[str, PatchLogits]]:
        """Cosines of every name at the resized pictures' patches, for each picture and recipe."""
        prepared = []
        for picture in pictures:
            pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).to(self.model.device)
            size = self.windows.resized(picture.height, picture.width)
            prepared.append(self.model.normalize(resize(pixels, size) / 255))
        yield from logits_of_windows(prepared, self.windows, self.model.patch_size, self._encode, self.batch_size)

    def _encode(self, crops: Tensor) -> dict[str, Encoded]:
        size = (crops.shape[-2], crops.shape[-1])
        features, norms = self.encoder.encode(crops, self.norms)
        return {
            name: Encoded(self.queries.embeddings @ one.mT, self.encoder.grid(name, size), norms.get(name))
            for name, one in features.items()
        }

    @torch.inference_mode()
    def _segmentation(self, picture: Image.Image, name: str, logits: PatchLogits) -> Segmentation:
        size = (picture.height, picture.width)
        scores = class_scores(logits.maps(), size, self.queries.owner, len(self.queries.classes))
        best, labels = scores.max(0)
        threshold, why = self._threshold(best)
        if threshold:
            labels = labels.masked_fill(best < threshold, 0)
        kind = np.uint8 if len(self.queries.classes) <= 256 else np.uint16
        return Segmentation(
            picture,
            labels.cpu().numpy().astype(kind),
            scores.cpu().numpy(),
            self.queries.classes,
            name,
            self.model.name,
            self.model.weights.random,
            why,
        )

    def _threshold(self, best: Tensor) -> tuple[float, str]:
        if self.threshold != "auto":
            level = float(self.threshold)
            return level, f"pixels with a best score below {level:g} are background" if level else "none"
        values = best.float().cpu().numpy()
        if values.min() == values.max():
            return 0.0, "auto: none, all pixels have the same best score"
        level = float(threshold_otsu(values))
        return level, (
            f"auto: pixels with a best score below {level:.3f} are background; Otsu's threshold, which parts this picture's best "
            f"scores ({values.min():.3f} … {values.max():.3f}) into the two groups that differ most"
        )


def as_picture(image: Picture) -> Image.Image:
    """A path, PIL image, array (H, W), (H, W, 3 or 4) or tensor (3, H, W) as an RGB picture; floats lie in [0, 1].

    >>> as_picture(np.zeros((4, 6, 3), np.uint8)).size, as_picture(torch.ones(3, 4, 6)).getpixel((0, 0))
    ((6, 4), (255, 255, 255))
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    if isinstance(image, Image.Image):
        try:
            return upright_rgb(image)
        except ValueError as error:
            raise UserError(f"this picture of mode {image.mode} cannot be used: {error}") from error
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (1, 3, 4)) or not pixels.size:
        raise UserError(
            f"a picture is an array (H, W, 3) or a tensor (3, H, W), not {type(image).__name__} {tuple(np.shape(pixels))}."
        )
    if np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise UserError("a picture of floats has values in [0, 1]; it must not be normalised yet.")
        pixels = (pixels * 255).round()
    elif pixels.min() < 0 or pixels.max() > 255:
        raise UserError(f"a picture of whole numbers has values in 0 … 255, not {pixels.min()} … {pixels.max()}.")
    return upright_rgb(
        Image.fromarray(pixels.astype(np.uint8).squeeze(-1) if pixels.shape[-1:] == (1,) else pixels.astype(np.uint8))
    )
