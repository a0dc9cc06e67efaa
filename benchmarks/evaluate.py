"""What do fifty recipes cost, and what does a recipe spend outside the model? ViT-B/16, random weights.

    python benchmarks/evaluate.py --images my/photographs

First the grid of the paper's Figs. 5 and 6 (five attentions, each with four variants and six α: 50 recipes) in one pass
over the photographs against `clearclip` alone; the two take turns, medians are printed. Then one recipe on one
photograph, a part at a time: the time outside the model (reading, resizing, cosines, maps, labels, counting; texts are
embedded before), and the same with the plain computation: all maps at full size, softmax over all names, argmax.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import clearclip
from clearclip.datasets import Sample
from clearclip.evaluation import run as evaluation
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import Recipe
from clearclip.methods.windows import PatchLogits
from clearclip.models.backbone import Backbone
from clearclip.pictures import find_images, read_image
from clearclip.segmentation.labelling import TEMPERATURE, class_scores, scaled
from clearclip.segmentation.text import Queries

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


def plain_labels(
    logits: PatchLogits, size: tuple[int, int], owner: Tensor, threshold: float = 0.0, scale: float = TEMPERATURE
) -> Tensor:
    """Word for word: every name's map at full size, softmax over all of them, the best class."""
    best, labels = class_scores(scaled(logits.maps(), size, scale), owner, int(owner.max()) + 1).max(0)
    return labels.masked_fill(best < threshold, 0) if threshold else labels


@contextlib.contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Another value for an attribute, for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class Timed:
    """The encoder, which adds up the seconds that are spent in it."""

    def __init__(self) -> None:
        self.seconds, self.encode = 0.0, DenseEncoder.encode

    def __get__(self, encoder: DenseEncoder, kind: type) -> Callable[..., object]:
        def encode(*given: object) -> object:
            start = now()
            result = self.encode(encoder, *given)  # type: ignore[arg-type]
            self.seconds += now() - start
            return result

        return encode


def now() -> float:
    """Seconds, after the accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def embedded(model: Backbone, classes: int) -> Queries:
    """Random text embeddings, so that no time goes into text."""
    width = clearclip.Segmenter(model, "a", prompts="photo").queries.embeddings.shape[1]
    rows = torch.nn.functional.normalize(
        torch.randn(classes, width, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    names = tuple(f"class {i}" for i in range(classes))
    return Queries(rows.to(model.device), torch.arange(classes, device=model.device), names)


def seconds(model: Backbone, dataset: Photographs, recipes: list[str | Recipe]) -> float:
    """How long an evaluation takes."""
    start = now()
    evaluation.evaluate(model, dataset, recipes, threshold=0.0, progress=False)
    return now() - start


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--model", default="clip_vitb16")
    words.add_argument("--images", type=Path, help="a folder of photographs; scikit-image's by default")
    words.add_argument("--photos", type=int, default=20)
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--classes", type=int, nargs="+", default=[21, 171])
    given = words.parse_args()
    model = clearclip.load(given.model, random=True)
    print(
        f"{given.model}, {model.weights.name} weights, {given.photos} photographs of {SIZE[0]} × {SIZE[1]}, {model.device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for classes in given.classes:
        dataset, queries = Photographs(given.images, given.photos, classes), embedded(model, classes)
        with replaced(clearclip.segmentation.segmenter, "embed", lambda *_, queries=queries: queries):
            grid(model, dataset, given.repeats)
            parts(model, Photographs(given.images, 1, classes), given.repeats)


def grid(model: Backbone, dataset: Photographs, repeats: int) -> None:
    """Fifty recipes against one."""
    seconds(model, dataset_of(dataset, 1), ["clearclip"])  # warms up
    pairs = [(seconds(model, dataset, ["clearclip"]), seconds(model, dataset, fifty())) for _ in range(repeats)]
    alone, together = zip(*pairs, strict=True)
    ratio = statistics.median(b / a for a, b in zip(alone, together, strict=True))
    print(
        f"{len(dataset.classes):4} classes: one recipe {statistics.median(alone):.1f} s, {len(fifty())} recipes "
        f"{statistics.median(together):.1f} s: {ratio:.2f} × one"
    )


def parts(model: Backbone, dataset: Photographs, repeats: int) -> None:
    """What of one recipe is not the model, and what it would be with the plain computation."""
    for name, labels in (("this", evaluation.class_labels), ("plain", plain_labels)):
        whole, outside = [], []
        for repeat in range(3 * repeats + 1):
            timed = Timed()
            with replaced(DenseEncoder, "encode", timed), replaced(evaluation, "class_labels", labels):
                took = seconds(model, dataset, ["clearclip"])
            if repeat:  # the first one warms up
                whole.append(took)
                outside.append((took - timed.seconds) / took)
        print(
            f"{len(dataset.classes):4} classes, one photograph, {name:5}: {statistics.median(whole) * 1e3:.0f} ms, "
            f"{statistics.median(outside):.1%} outside the model"
        )


def dataset_of(dataset: Photographs, count: int) -> Photographs:
    """The first photographs."""
    part = object.__new__(Photographs)
    part.classes, part.samples = dataset.classes, dataset.samples[:count]
    return part


if __name__ == "__main__":
    main()
