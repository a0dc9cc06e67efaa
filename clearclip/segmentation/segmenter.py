"""Segmenter: any picture, any class names → labels, scores, overlay."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.filters import threshold_otsu
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import Recipe
from clearclip.methods.stages.stage import Picture
from clearclip.methods.windows import Encoded, PatchLogits, Windows, logits_of_windows, resize
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.pixels import is_single, opened
from clearclip.segmentation.experts import of_experts
from clearclip.segmentation.labelling import class_scores
from clearclip.segmentation.result import Segmentation
from clearclip.segmentation.text import BACKGROUND, Queries, class_names, contrasted, embed, embed_nothing


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
        contrast: words that compete with the classes, as "sky, ground"; what they win becomes "background" (arXiv 2407.05061).

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
        contrast: str | Sequence[str] = (),
    ) -> None:
        named = class_names(classes)
        if background and named[0][0] != BACKGROUND:
            named = [[BACKGROUND], *named]
        if contrast:
            named, background = contrasted(named, contrast), True
        if threshold != "auto" and not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
            raise UserError(f'threshold {threshold!r}: a score between 0 and 1, or "auto".')
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: at least 1.")
        if threshold and not background:
            raise UserError("a threshold turns pixels into background, so it needs background=True.")
        methods = [recipe] if isinstance(recipe, (str, Recipe)) else list(recipe)
        self.model, self.threshold, self.batch_size, self.norms = as_backbone(model), threshold, batch_size, norms
        self.encoder = DenseEncoder(self.model, methods, proxy)
        self.windows = windows or Windows.of(self.model)
        self.names, self.prompts = [name for names in named for name in names], prompts
        self.queries = embed(self.model, named, prompts, cache)
        self.experts: Queries | None = (
            None  # the names in the prompts of each class's expert, see segmentation.floss, …
        )
        self.templates: dict[str, list[str]] = {}  # … and the templates of these prompts
        if contrast:  # a class is called by its first name, which here may be any of the words
            self.queries = replace(self.queries, classes=(BACKGROUND, *self.queries.classes[1:]))
        alone = len(self.queries.embeddings) == 1
        asked = any(stage.needs_empty for recipe in self.encoder.recipes for stage in recipe.stages)
        self._empty = embed_nothing(self.model, prompts) if alone and asked else None

    def __repr__(self) -> str:
        classes, recipes = self.queries.classes, ", ".join(recipe.name for recipe in self.encoder.recipes)
        return f"Segmenter({self.model.name}: {recipes}; {len(classes)} classes: {', '.join(classes)})"

    def __call__(self, image: Any) -> Any:
        """Segment pictures with the first recipe: a file, PIL image, array (H, W, 3) or tensor (3, H, W), or many of them.

        Returns a `Segmentation`; for a list, batch, folder or DataLoader a list of them.
        """
        results = [next(iter(result.values())) for result in self.each(image)]
        return results[0] if is_single(image) else results

    def each(self, image: Any) -> list[dict[str, Segmentation]]:
        """As a call, with all recipes: for each picture a `Segmentation` by recipe name."""
        pictures = list(opened(image))
        return [
            {name: self._segmentation(picture, name, logits) for name, logits in by_recipe.items()}
            for picture, by_recipe in zip(pictures, self.logits(pictures), strict=True)
        ]

    @torch.inference_mode()
    def logits(
        self, pictures: Sequence[Image.Image], regions: Sequence[np.ndarray] | None = None
    ) -> Iterator[dict[str, PatchLogits]]:
        """Cosines of every name at the resized pictures' patches, for each picture and recipe.

        Args:
            pictures: of any sizes.
            regions: for recipes that need them, a label for every pixel of each picture, (H, W), below 0 for none.
        """
        prepared = []
        for picture in pictures:
            pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).to(self.model.device)
            size = self.windows.resized(picture.height, picture.width)
            prepared.append(self.model.normalize(resize(pixels, size) / 255))
        cut = None if regions is None else [self._region(region) for region in regions]
        if cut is None and any(recipe.needs_regions for recipe in self.encoder.recipes):
            names = ", ".join(recipe.name for recipe in self.encoder.recipes if recipe.needs_regions)
            raise UserError(f"recipe {names}: it needs regions, a label for every pixel of each picture.")
        by_picture = logits_of_windows(
            prepared, self.windows, self.model.patch_size, self._encode, self.batch_size, cut
        )
        for picture, image, by_recipe in zip(pictures, prepared, by_picture, strict=True):
            yield self._merged(by_recipe, image, (picture.height, picture.width))

    def _region(self, region: np.ndarray) -> Tensor:
        """A label for every pixel of a picture at the size of its windows, (H', W') int64."""
        labels = torch.from_numpy(np.asarray(region).astype(np.int64)).to(self.model.device)
        size = self.windows.resized(labels.shape[0], labels.shape[1])
        return F.interpolate(labels[None, None].double(), size=size, mode="nearest")[0, 0].long()

    def _encode(self, crops: Tensor, regions: Tensor | None) -> dict[str, Encoded]:
        size, queries = (crops.shape[-2], crops.shape[-1]), self.experts or self.queries
        dense = self.encoder.encode(crops, self.norms, regions, queries.embeddings, queries.owner, self._empty)
        encoded = {}
        for recipe in self.encoder.recipes:
            name = recipe.name
            scores = queries.embeddings @ dense.features[name].mT  # (B, Q, N)
            for stage in recipe.scoring:
                scores = stage(scores, dense.features[name], dense.trunks[name])
            encoded[name] = Encoded(scores, self.encoder.grid(name, size), dense.norms.get(name), dense.kept.get(name))
        return encoded

    def _merged(
        self, by_recipe: dict[str, PatchLogits], image: Tensor, size: tuple[int, int]
    ) -> dict[str, PatchLogits]:
        """The logits of a picture, its image (3, H', W') and own size, after those stages that see all of its windows."""
        queries = self.experts or self.queries
        picture = Picture(image, size, self.model, self.encoder.proxy, queries.embeddings, queries.owner)
        for recipe in self.encoder.recipes:
            for stage in recipe.merged:
                by_recipe[recipe.name] = stage(by_recipe[recipe.name], picture)
        if self.experts is None:
            return by_recipe
        return {name: of_experts(logits, size, self.queries.owner) for name, logits in by_recipe.items()}

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
