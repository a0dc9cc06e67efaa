"""Segmenter: any picture, any class names → labels, scores, overlay."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.filters import threshold_otsu
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.passes import Passes
from clearclip.methods.recipes import Recipe
from clearclip.methods.regions import nearest
from clearclip.methods.stages.stage import Picture, Stage
from clearclip.methods.windows import Encoded, PatchLogits, Windows, logits_of_windows
from clearclip.models.backbone import Backbone
from clearclip.models.finite import require_finite
from clearclip.models.memory import refuse_too_large
from clearclip.models.threads import threads, threads_for
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.pixels import is_single, opened
from clearclip.segmentation.experts import of_experts
from clearclip.segmentation.prepared import Prepared, prepare
from clearclip.segmentation.regions import as_regions
from clearclip.segmentation.result import Segmentation
from clearclip.segmentation.scoremaps import ScoreMaps
from clearclip.segmentation.text import BACKGROUND, Queries, class_names, contrasted, embed, embed_nothing
from clearclip.segmentation.text_embeddings import given_queries, text_embeddings

Labels = dict[str, list[Tensor]]  # regions or true labels (H', W') of every picture, by what they are


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
        text: text embeddings in place of the model's text tower: a file, an array (C, D) or a mapping of names to vectors, as
            `clearclip.segmentation.text_embeddings.text_embeddings` takes them.
        contrast: words that compete with the classes, as "sky, ground"; what they win becomes "background" (arXiv 2407.05061).
        passes: keeps what the trunk gave, so that another segmenter of the same pictures need not run it again.

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
        text: Any = None,
        contrast: str | Sequence[str] = (),
        passes: Passes | None = None,
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
        self.encoder = DenseEncoder(self.model, methods, proxy, passes)
        self.windows = windows or Windows.of(self.model)
        refuse_too_large(self.model, min(self.windows.crop, self.windows.short_side))
        self.names, self.prompts = [name for names in named for name in names], prompts
        self.queries = (
            embed(self.model, named, prompts, cache)
            if text is None
            else given_queries(self.model, named, text_embeddings(text))
        )
        # the names in the prompts of each class's expert, see segmentation.floss, and the templates of these prompts
        self.experts: Queries | None = None
        self.templates: dict[str, list[str]] = {}
        if contrast:  # a class is called by its first name, which here may be any of the words
            self.queries = replace(self.queries, classes=(BACKGROUND, *self.queries.classes[1:]))
        alone = len(self.queries.embeddings) == 1
        asked = any(stage.needs_empty for recipe in self.encoder.recipes for stage in recipe.stages)
        self._empty = embed_nothing(self.model, prompts) if alone and asked else None

    def __repr__(self) -> str:
        classes, recipes = self.queries.classes, ", ".join(recipe.name for recipe in self.encoder.recipes)
        return f"Segmenter({self.model.name}: {recipes}; {len(classes)} classes: {', '.join(classes)})"

    def __call__(self, image: Any, regions: Any = None, truth: Any = None) -> Any:
        """Segment pictures with the first recipe: a file, PIL image, array (H, W, 3) or tensor (3, H, W), or many of them.

        Args:
            image: one picture or many.
            regions: for recipes that take them (corrclip), the regions of each picture as `as_regions` takes them: a label
                image, or masks. For many pictures a list.
            truth: for `oracle`, the true labels of each picture, likewise.

        Returns a `Segmentation`; for a list, batch, folder or DataLoader a list of them.
        """
        results = [next(iter(result.values())) for result in self.each(image, regions=regions, truth=truth)]
        return results[0] if is_single(image) else results

    def each(
        self, image: Any, names: Sequence[str] = (), regions: Any = None, truth: Any = None
    ) -> list[dict[str, Segmentation]]:
        """As a call, with all recipes: for each picture a `Segmentation` by recipe name.

        Args:
            image: as for a call.
            names: what messages call the pictures, by default picture 0, picture 1, …
            regions: as for a call.
            truth: as for a call.
        """
        pictures, single = list(opened(image)), is_single(image)
        cut, true = ([given] if single and given is not None else given for given in (regions, truth))
        known = None if cut is None else [as_regions(given) for given in cut]
        by_picture = self.logits(pictures, names, known, true)
        with threads(self.threads):
            return [
                {
                    name: self._segmentation(picture, name, logits, None if known is None else known[i])
                    for name, logits in by_recipe.items()
                }
                for i, (picture, by_recipe) in enumerate(zip(pictures, by_picture, strict=True))
            ]

    @property
    def threads(self) -> int:
        """How many threads a batch of windows is worth on the CPU."""
        return threads_for(self.model, self.batch_size * (self.windows.crop // self.model.patch_size) ** 2)

    def prepare(self, picture: Image.Image) -> Prepared:
        """A picture as `logits` takes it, with all that can be done while the model is at others; may be called in threads."""
        return prepare(picture, self.model, self.windows)

    @torch.inference_mode()
    def logits(
        self,
        pictures: Sequence[Image.Image | Prepared],
        names: Sequence[str] = (),
        regions: Sequence[np.ndarray] | None = None,
        truth: Sequence[np.ndarray] | None = None,
        check: Callable[[Tensor, Sequence[str], Sequence[str], Backbone], None] = require_finite,
    ) -> Iterator[dict[str, PatchLogits]]:
        """Cosines of every name at the resized pictures' patches, for each picture and recipe.

        Args:
            pictures: of any sizes, as they are or prepared; they are held together, and their windows share forward passes.
            names: what messages call the pictures, by default picture 0, picture 1, …
            regions: for recipes that take them, those of each picture as `as_regions` takes them.
            truth: for recipes that are told it, the true label of every pixel of each picture.
            check: what looks whether all values are finite, with the arguments of `require_finite`, which waits for the device.

        Raises: `UserError` for values that are not finite, before anything is made of them.
        """
        if not pictures:
            return
        labels = {}
        if regions is not None:
            if not any(recipe.takes_regions for recipe in self.encoder.recipes):
                known = ", ".join(recipe.name for recipe in self.encoder.recipes)
                raise UserError(f"recipe {known}: it takes no regions; corrclip does.")
            labels["regions"] = self._resized("regions", regions, pictures)
        if told := [recipe.name for recipe in self.encoder.recipes if recipe.needs_truth]:
            if truth is None:
                raise UserError(
                    f"recipe {', '.join(told)}: it is told the true label of every pixel, so it runs only where there are true "
                    "labels: with clearclip evaluate, on the drawn scenes, or as Segmenter(…)(picture, truth=labels)."
                )
            labels["truth"] = self._resized("true labels", truth, pictures)
        ready = [picture if isinstance(picture, Prepared) else self.prepare(picture) for picture in pictures]
        images = [picture.image(self.model, self.windows) for picture in ready]
        by_picture = list(self._by_picture(images, labels))
        finite = torch.stack([torch.stack([part.finite for part in logits.values()]) for logits in by_picture])
        sites = [f"the features of recipe {name}" for name in by_picture[0]]
        check(finite, names or [f"picture {i}" for i in range(len(pictures))], sites, self.model)
        for picture, image, by_recipe in zip(ready, images, by_picture, strict=True):
            yield self._merged(by_recipe, image, (picture.height, picture.width))

    def _resized(self, what: str, labels: Sequence[Any], pictures: Sequence[Image.Image | Prepared]) -> list[Tensor]:
        """Labels of every picture at the size of its windows, (H', W') int64."""
        if len(labels) != len(pictures):
            raise UserError(f"{len(pictures)} pictures and {what} of {len(labels)}: each picture needs its own.")
        resized = []
        for given, picture in zip(labels, pictures, strict=True):
            pixels = torch.from_numpy(as_regions(given)).to(self.model.device)
            size = (picture.height, picture.width)
            if tuple(pixels.shape) != size:
                raise UserError(f"{what} of {tuple(pixels.shape)} pixels for a picture of {size}: they must be equal.")
            resized.append(nearest(pixels[None], self.windows.resized(*size))[0])
        return resized

    def _by_picture(self, images: list[Tensor], labels: Labels) -> Iterator[dict[str, PatchLogits]]:
        """The logits of all windows, as `logits_of_windows` yields them."""
        if not any(recipe.one_by_one for recipe in self.encoder.recipes):
            yield from self._of_windows(images, self._encode, labels)
            return
        for i, image in enumerate(images):
            mean = self._mean_similarity(image) if any(r.looks_around for r in self.encoder.recipes) else None
            encode = partial(self._encode, mean_similarity=mean)
            yield from self._of_windows([image], encode, {kind: [each[i]] for kind, each in labels.items()})

    def _of_windows(
        self, images: list[Tensor], encode: Callable[[Tensor, dict[str, Tensor]], dict[str, Encoded]], labels: Labels
    ) -> Iterator[dict[str, PatchLogits]]:
        return logits_of_windows(images, self.windows, self.model.patch_size, encode, self.batch_size, labels)

    def _mean_similarity(self, image: Tensor) -> float:
        """The mean cosine of the second model's patches in a window, over all windows of a picture (3, H', W')."""
        means: list[float] = []

        def encode(crops: Tensor, labels: dict[str, Tensor]) -> dict[str, Encoded]:
            means.extend(self.encoder.mean_similarities(crops))
            return {"": Encoded(crops.new_zeros(len(crops), 0, 1), (1, 1))}

        next(self._of_windows([image], encode, {}))
        return sum(means) / len(means)

    def _encode(
        self, crops: Tensor, labels: dict[str, Tensor], mean_similarity: float | None = None
    ) -> dict[str, Encoded]:
        size, queries = (crops.shape[-2], crops.shape[-1]), self.experts or self.queries
        dense = self.encoder.encode(
            crops,
            self.norms,
            labels.get("regions"),
            queries.embeddings,
            queries.owner,
            labels.get("truth"),
            mean_similarity,
            self._empty,
        )
        encoded: dict[str, Encoded] = {}
        scored: dict[
            tuple[Recipe, tuple[Stage, ...]], Tensor
        ] = {}  # shared by recipes that differ in later stages only
        for recipe in self.encoder.recipes:
            name, key = recipe.name, (recipe.encoding, (*recipe.scoring,))
            if key not in scored:
                scores = queries.embeddings @ dense.features[name].mT  # (B, Q, N)
                for stage in recipe.scoring:
                    scores = stage(scores, dense.features[name], dense.trunks[name])
                scored[key] = scores
            grid = self.encoder.grid(name, size)
            encoded[name] = Encoded(scored[key], grid, dense.norms.get(name), dense.kept.get(name))
        return encoded

    def _merged(
        self, by_recipe: dict[str, PatchLogits], image: Tensor, size: tuple[int, int]
    ) -> dict[str, PatchLogits]:
        """The logits of a picture, its image (3, H', W') and own size, after those stages that see all of its windows."""
        queries = self.experts or self.queries
        picture = Picture(image, size, self.model, self.encoder.proxy, queries.embeddings, queries.owner)
        done: dict[tuple[Recipe, tuple[Stage, ...]], PatchLogits] = {}  # LPOSS+ goes on where LPOSS ends
        for recipe in self.encoder.recipes:
            for i, stage in enumerate(recipe.merged, 1):
                key = recipe.encoding, (*recipe.scoring, *recipe.merged[:i])
                if key not in done:
                    done[key] = stage(by_recipe[recipe.name], picture)
                by_recipe[recipe.name] = done[key]
        if self.experts is None:
            return by_recipe
        return {name: of_experts(logits, size, self.queries.owner) for name, logits in by_recipe.items()}

    def _segmentation(
        self, picture: Image.Image, name: str, logits: PatchLogits, regions: np.ndarray | None
    ) -> Segmentation:
        classes = self.queries.classes
        score_maps = ScoreMaps(logits, (picture.height, picture.width), self.queries.owner, len(classes))
        labels, best = score_maps.labels()
        threshold, why = self._threshold(best)
        if threshold:
            labels[best < threshold] = 0
        for stage in next(recipe.labeling for recipe in self.encoder.recipes if recipe.name == name):
            labels = stage(labels, regions)
        return Segmentation(picture, labels, score_maps, classes, name, self.model.name, self.model.weights.random, why)

    def _threshold(self, best: np.ndarray) -> tuple[float, str]:
        if self.threshold != "auto":
            level = float(self.threshold)
            return level, f"pixels with a best score below {level:g} are background" if level else "none"
        if best.min() == best.max():
            return 0.0, "auto: none, all pixels have the same best score"
        level = float(threshold_otsu(best))
        return level, (
            f"auto: pixels with a best score below {level:.3f} are background; Otsu's threshold, which parts this picture's best "
            f"scores ({best.min():.3f} … {best.max():.3f}) into the two groups that differ most"
        )
