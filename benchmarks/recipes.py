"""What do recipes cost? Time and memory of every recipe alone and of all in one pass, ViT-B/16, random weights.

    python -m benchmarks.recipes

One and thirty recipes against a plain encoding of the same images; plain is the library's own forward pass. Then a
photograph of 500 × 375 in windows, from its pixels to the cosines of 20 classes at its patches, with what a recipe does once
the windows are merged (text is embedded before). What runs takes turns. A recipe that needs a second model gets a small one,
whose own pass is timed apart. Peak memory is that of a process that does nothing else, libraries and weights included; on
CUDA it is what PyTorch allocates there.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import clearclip
from benchmarks.common import Clock, Row, now, peak_memory, row, show, turns
from clearclip.errors import UserError
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import ADDITIONS, RECIPES, Recipe, recipe
from clearclip.models.backbone import Backbone
from clearclip.segmentation.segmenter import Segmenter

NAME = "recipes"
CLASSES = 20
ONE, ALL = "clearclip", "all in one pass"
EVERY = [*RECIPES, *(f"{ONE}+{addition}" for addition in ADDITIONS)]
VARIANTS = {
    "full": {},
    "-RC": {"residual": False},
    "-RC-FFN": {"residual": False, "ffn": False},
    "-FFN": {"ffn": False},
}


def thirty() -> list[Recipe]:
    """The grid of the paper's Figs. 5 and 8, five values of alpha, and five published methods."""
    grid = [
        Recipe(f"{affinity} {name}", affinity, **knobs)
        for affinity in ("qk", "qq", "kk", "vv", "identity")
        for name, knobs in VARIANTS.items()
    ]
    alphas = [Recipe(f"alpha {alpha}", "qq", ffn=False, alpha=alpha) for alpha in (0.1, 0.5, 2.0, 10.0, 100.0)]
    published = [RECIPES[name] for name in ("maskclip", "sclip", "naclip", "gem+clearclip", "segearth_ov")]
    return grid + alphas + published


# one and thirty against a plain pass ---------------------------------------------------------------------------------


def against_plain(model: Backbone, images: torch.Tensor, repeats: int) -> list[Row]:
    encoders = {
        "clip": DenseEncoder(model, ["clip"]),
        ONE: DenseEncoder(model, [ONE]),
        "30 recipes": DenseEncoder(model, thirty()),
    }
    encodings = {name: (lambda encoder=encoder: encoder(images)) for name, encoder in encoders.items()}
    taken = turns({"plain": lambda: model(images), **encodings}, repeats)
    rows = [row(NAME, f"features of {name}", "a plain encoding", "×", taken.ratios(name, "plain")) for name in encoders]
    return [*rows, row(NAME, "features of 30 recipes", f"features of {ONE}", "×", taken.ratios("30 recipes", ONE))]


# every recipe --------------------------------------------------------------------------------------------------------


class Photograph:
    """A photograph on its way through one or several recipes, and where the time goes."""

    def __init__(self, model: Backbone, guide: Backbone, recipes: list[str]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
        self.picture = Image.fromarray(pixels)
        classes = [f"class {i}" for i in range(CLASSES)]
        proxy = guide if any(recipe(name).needs_guide for name in recipes) else None
        self.segmenter = Segmenter(model, classes, recipes, prompts="photo", proxy=proxy)
        self.encoding = Clock()
        self.segmenter.encoder.encode = self.encoding.function(self.segmenter.encoder.encode)  # type: ignore[method-assign]
        self.times: list[tuple[float, float, float]] = []  # whole, in the encoder, in the second model

    def run(self) -> None:
        """Once from the pixels to the logits of all recipes."""
        for _ in self.segmenter.logits([self.picture]):
            pass

    def turn(self, guide: Clock) -> float:
        """`run`, timed."""
        self.encoding.seconds = guide.seconds = 0.0
        start = now()
        self.run()
        self.times.append((now() - start, self.encoding.seconds, guide.seconds))
        return self.times[-1][0]

    def outside(self) -> list[float]:
        """The share of the time that is spent outside the encoder, in percent, of every turn but the first."""
        return [100 * (whole - encoding) / whole for whole, encoding, _ in self.times[1:]]

    def without_guide(self) -> list[float]:
        """Seconds without the second model's own, of every turn but the first."""
        return [whole - guide for whole, _, guide in self.times[1:]]


def each(
    model: Backbone, guide: Backbone, names: list[str], repeats: int, peak: Callable[[list[str]], float]
) -> list[Row]:
    """Every recipe alone and all of them in one pass, each against one recipe."""
    runs: dict[str, Photograph] = {}
    for name in dict.fromkeys([ONE, *names]):
        try:
            alone = Photograph(model, guide, [name])
            alone.run()
        except UserError as error:  # a recipe that is told more than a picture, such as the true labels
            print(f"left out: {error}", file=sys.stderr)
        else:
            runs[name] = alone
    together = list(runs)
    runs[ALL] = Photograph(model, guide, together)
    clock = Clock()
    clock.modules(guide.model)
    taken = turns({name: partial(run.turn, clock) for name, run in runs.items()}, repeats)
    found = [row(NAME, ONE, "", "ms", [1e3 * seconds for seconds in taken.wall[ONE]])]
    found.append(row(NAME, f"{ONE}, outside the encoder", "all of it", "%", runs[ONE].outside()))
    for name, run in list(runs.items())[1:]:
        found.append(row(NAME, name, ONE, "×", taken.ratios(name, ONE)))
        if any(guided for _, _, guided in run.times):
            own = [a / b for a, b in zip(run.without_guide(), taken.wall[ONE], strict=True)]
            found.append(row(NAME, f"{name}, without the second model's own pass", ONE, "×", own))
    for name in runs:
        if value := peak(together if name == ALL else [name]):
            found.append(row(NAME, f"{name}, peak memory", "", "MiB", [value]))
    return found


def peak_here(model: Backbone, guide: Backbone, names: list[str]) -> float:
    """MiB at the peak of one run in this process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    Photograph(model, guide, names).run()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory()


def peak_elsewhere(model: str, guide: str, names: list[str]) -> float:
    """The same in a process of its own."""
    words = ["--model", model, "--proxy", guide, "--measure", "--recipe", *names]
    command = [sys.executable, "-m", "benchmarks.recipes", *words]
    root = Path(__file__).parents[1]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root).stdout.split()[-1])


def options() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--model", default="clip_vitb16")
    words.add_argument("--proxy", default="dino_vits16", help="the second model")
    words.add_argument("--image-size", type=int, default=224)
    words.add_argument("--batch-size", type=int, default=4)
    words.add_argument("--repeats", type=int, default=9)
    words.add_argument("--recipe", nargs="+", default=EVERY, help="what the table has; by default all")
    words.add_argument("--no-memory", action="store_true", help="leave out the peaks, which need a process each")
    words.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return words


@torch.inference_mode()
def rows(given: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    model, guide = clearclip.load(given.model, random=True), clearclip.load(given.proxy, random=True)
    images = torch.randn(given.batch_size, 3, given.image_size, given.image_size, device=model.device)
    peak = (lambda names: 0.0) if given.no_memory else partial(peak_elsewhere, given.model, given.proxy)
    return [*against_plain(model, images, given.repeats), *each(model, guide, given.recipe, given.repeats, peak)]


@torch.inference_mode()
def main() -> None:
    given = options().parse_args()
    if given.measure:
        model, guide = clearclip.load(given.model, random=True), clearclip.load(given.proxy, random=True)
        return print(f"{peak_here(model, guide, given.recipe):.0f}")
    what = f"{given.model} and {given.proxy}, random weights; a photograph of 500 × 375, {CLASSES} classes"
    show(rows(given), what)


if __name__ == "__main__":
    main()
