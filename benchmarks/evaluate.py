"""What do fifty recipes cost, where does the time go, and how fast are small pictures?

    python -m benchmarks.evaluate --images my/photographs

The grid of the paper's Figs. 5 and 6 (five attentions, each with four variants and six α: 50 recipes) in one pass over
photographs against `clearclip` alone, with ViT-B/16 and random weights. What takes turns with them are parts of the same:
the trunk alone, the encoder alone with all 50, and the labels of one recipe against the plain computation (all maps at full size,
softmax over all names, argmax). Texts are embedded before. Then 200 drawn scenes of 64 pixels
with two recipes of the shipped model.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import clearclip
from benchmarks.common import Clock, Row, now, row, show, turns
from clearclip.datasets import Sample, load
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import Recipe
from clearclip.models.backbone import Backbone
from clearclip.pictures import find_images, read_image
from clearclip.segmentation import segmenter as segmentation
from clearclip.segmentation.labelling import TEMPERATURE, class_labels
from clearclip.segmentation.segmenter import Segmenter
from clearclip.segmentation.text import Queries

NAME = "evaluate"
SIZE = (500, 375)  # width, height
ATTENTIONS = ("qk", "qq", "kk", "vv", "identity")
VARIANTS = {
    "full": {},
    "-RC": {"residual": False},
    "-RC-FFN": {"residual": False, "ffn": False},
    "-FFN": {"ffn": False},
}
ALPHAS = (0.1, 0.5, 1.0, 2.0, 10.0, 100.0)


def fifty() -> list[Recipe]:
    """The grid of Figs. 5 and 6."""
    variants = [
        Recipe(f"{attention} {name}", attention, **knobs)
        for attention in ATTENTIONS
        for name, knobs in VARIANTS.items()
    ]
    alphas = [
        Recipe(f"{attention} {alpha}", attention, ffn=False, alpha=alpha)
        for attention in ATTENTIONS
        for alpha in ALPHAS
    ]
    return variants + alphas


class Photographs:
    """Photographs of 500 × 375 pixels with random labels; the cost does not depend on what is in them."""

    ignore_index = 255
    name = "photographs"
    identity = "photographs of a benchmark"

    def __init__(self, folder: Path | None, count: int, classes: int) -> None:
        if folder is None:
            from skimage import data

            pictures = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "coffee", "chelsea", "rocket")]
        else:
            pictures = [read_image(path) for path in find_images([folder])[:count]]
        rng = np.random.default_rng(0)
        self.classes = [f"class {i}" for i in range(classes)]
        self.samples = []
        for i in range(count):
            label = np.kron(rng.integers(0, classes, (15, 20)), np.ones((25, 25), int))
            label[rng.random(label.shape) < 0.05] = 255
            self.samples.append(Sample(cropped(pictures[i % len(pictures)], rng), label.astype(np.uint8), str(i)))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random part of a picture, in the form of a photograph."""
    width, height = image.size
    side = min(width / SIZE[0], height / SIZE[1]) * rng.uniform(0.6, 1)
    left, top = rng.uniform(0, width - side * SIZE[0]), rng.uniform(0, height - side * SIZE[1])
    return image.resize(SIZE, box=(left, top, left + side * SIZE[0], top + side * SIZE[1]))


def embedded(model: Backbone, classes: int) -> Queries:
    """Random text embeddings, so that no time goes into text."""
    width = clearclip.Segmenter(model, "a", prompts="photo").queries.embeddings.shape[1]
    rows = F.normalize(torch.randn(classes, width, generator=torch.Generator().manual_seed(0)), dim=-1)
    names = tuple(f"class {i}" for i in range(classes))
    return Queries(rows.to(model.device), torch.arange(classes, device=model.device), names)


@contextlib.contextmanager
def embedding(queries: Queries) -> Iterator[None]:
    """These text embeddings for whatever is asked, for a while."""
    before = segmentation.embed
    segmentation.embed = lambda *_: queries  # type: ignore[assignment]
    try:
        yield
    finally:
        segmentation.embed = before


def plain_labels(logits: object, size: tuple[int, int]) -> torch.Tensor:
    """Word for word: every name's map at full size, softmax over all of them, the best."""
    maps = F.interpolate(logits.maps()[None], size=size, mode="bilinear", align_corners=False)[0]  # type: ignore[attr-defined]
    return (maps * TEMPERATURE).softmax(0).argmax(0)


@torch.inference_mode()
def photographs(model: Backbone, folder: Path | None, count: int, classes: int, repeats: int) -> list[Row]:
    """Fifty recipes against one, and parts of the same against the whole of them."""
    dataset, queries = Photographs(folder, count, classes), embedded(model, classes)
    with embedding(queries):
        one = Segmenter(model, dataset.classes, "clearclip")

        clock, outside = Clock(), list[float]()

        def evaluation(recipes: object) -> Callable[[], object]:
            return lambda: clearclip.evaluate(model, dataset, recipes, threshold=0.0, progress=False)

        alone = evaluation("clearclip")

        def partly() -> float:
            clock.seconds, start = 0.0, now()
            DenseEncoder.encode = clock.function(encode)  # type: ignore[method-assign]
            try:
                alone()
            finally:
                DenseEncoder.encode = encode  # type: ignore[method-assign]
            took = now() - start
            outside.append(100 * (took - clock.seconds) / took)
            return took

        ready = [one.prepare(sample.image).image(model, one.windows) for sample in dataset.samples]
        boxes = [one.windows.boxes(*image.shape[1:]) for image in ready]
        crops = torch.stack(
            [
                image[:, y:bottom, x:right]
                for image, several in zip(ready, boxes, strict=True)
                for y, x, bottom, right in several
            ]
        )
        batches = crops.split(one.batch_size)
        encoder, encode = DenseEncoder(model, fifty()), DenseEncoder.encode
        asked = [next(iter(by.values())) for by in one.logits([sample.image for sample in dataset.samples])]
        size = SIZE[::-1]
        taken = turns(
            {
                "one": partly,
                "fifty": evaluation(fifty()),
                "trunk": lambda: [model.block_inputs(batch, [model.depth]) for batch in batches],
                "encoder": lambda: [encoder(batch) for batch in batches],
                "labels": lambda: [class_labels(logits, size, queries.owner) for logits in asked],
                "plain": lambda: [plain_labels(logits, size) for logits in asked],
            },
            repeats,
        )

    def share(part: str, of: str) -> list[float]:
        return [100 * value for value in taken.ratios(part, of)]

    said = f"{classes} classes"
    return [
        row(NAME, f"one recipe, {said}, {count} photographs", "", "s", taken.wall["one"]),
        row(NAME, f"50 recipes, {said}", "one recipe", "×", taken.ratios("fifty", "one")),
        row(NAME, f"outside the model, one recipe, {said}", "all of it", "%", outside[1:]),
        row(NAME, f"the trunk, 50 recipes, {said}", "all of it", "% of it", share("trunk", "fifty")),
        row(NAME, f"trunk, last block and projection, 50 recipes, {said}", "all of it", "% of it", share("encoder", "fifty")),
        row(NAME, f"labels, {said}", "the plain computation", "×", taken.ratios("labels", "plain")),
    ]  # fmt: skip


def small(count: int, repeats: int) -> list[Row]:
    """Drawn scenes with the shipped model, from drawing to confusion matrices."""
    model, dataset = clearclip.load("clip_tiny"), load("scenes", count=count)
    queries = Segmenter(model, dataset.classes, prompts="photo").queries
    with embedding(queries):
        taken = turns(
            {"scenes": lambda: clearclip.evaluate(model, dataset, ["clip", "clearclip"], progress=False)}, repeats
        )
    what = f"{count} scenes of 64 px, two recipes of clip_tiny"
    return [
        row(NAME, what, "", "s", taken.wall["scenes"]),
        row(NAME, f"{what}, all threads together", "", "CPU s", taken.cpu["scenes"]),
    ]


def options() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--model", default="clip_vitb16")
    words.add_argument("--images", type=Path, help="a folder of photographs; scikit-image's by default")
    words.add_argument("--photos", type=int, default=4)
    words.add_argument("--scenes", type=int, default=200)
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--classes", type=int, nargs="+", default=[21, 171])
    return words


def rows(given: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    model = clearclip.load(given.model, random=True)
    found = [photographs(model, given.images, given.photos, classes, given.repeats) for classes in given.classes]
    return [*chain(*found), *small(given.scenes, given.repeats)]


def main() -> None:
    given = options().parse_args()
    show(rows(given), f"{given.model}, random weights; scenes with clip_tiny, trained")


if __name__ == "__main__":
    main()
