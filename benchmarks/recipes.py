"""What do recipes cost? Time and memory of every recipe alone and of all in one pass, ViT-B/16, random weights.

    python benchmarks/recipes.py

First one and thirty recipes against a plain encoding of the same images; plain is the library's own forward pass. Then a
table: a photograph of 500 × 375 in windows, from its pixels to the cosines of 20 classes at its patches, with what a recipe does
once the windows are merged (text is embedded before). What runs takes turns; printed are medians of times, and of ratios
within one turn. A recipe that needs a second model gets a small one, whose own pass is timed apart. Peak memory is that of a
process that does nothing else, libraries and weights included; on CUDA it is what PyTorch allocates there.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import clearclip
from clearclip.errors import UserError
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import ADDITIONS, RECIPES, Recipe, recipe
from clearclip.models.backbone import Backbone
from clearclip.segmentation.segmenter import Segmenter

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


# clocks --------------------------------------------------------------------------------------------------------------


def now() -> float:
    """Seconds, after the accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock:
    """Adds up the seconds that are spent in a function or in a model's modules; one inside another counts once."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._since = 0.0, 0, 0.0

    def start(self, *_: object) -> None:
        """Enter."""
        if not self._depth:
            self._since = now()
        self._depth += 1

    def stop(self, *_: object) -> None:
        """Leave."""
        self._depth -= 1
        if not self._depth:
            self.seconds += now() - self._since

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*given: object, **named: object) -> object:
            self.start()
            try:
                return function(*given, **named)
            finally:
                self.stop()

        return timed

    def modules(self, model: nn.Module) -> None:
        """Time every module of a model from now on."""
        for module in model.modules():
            module.register_forward_pre_hook(self.start)
            module.register_forward_hook(self.stop, always_call=True)  # a pass that is left early raises


def medians(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each variant, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        for name, run in variants.items():
            start = now()
            run()
            if repeat:  # the first round warms up
                seconds[name].append(now() - start)
    return seconds


def ratio(a: list[float], b: list[float]) -> float:
    """The median of the ratios within one turn."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


# one and thirty against a plain pass ---------------------------------------------------------------------------------


def against_plain(model: Backbone, images: torch.Tensor, repeats: int) -> None:
    encoders = {
        "clip": DenseEncoder(model, ["clip"]),
        ONE: DenseEncoder(model, [ONE]),
        "30 recipes": DenseEncoder(model, thirty()),
    }
    encodings = {name: (lambda encoder=encoder: encoder(images)) for name, encoder in encoders.items()}
    seconds = medians({"plain": lambda: model(images), **encodings}, repeats)
    for name, times in seconds.items():
        print(
            f"{name:12} {statistics.median(times) * 1e3:8.1f} ms   {ratio(times, seconds['plain']):.3f} × plain   "
            f"{ratio(times, seconds[ONE]):.3f} × one recipe"
        )


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

    def turn(self, guide: Clock) -> None:
        """`run`, timed."""
        self.encoding.seconds = guide.seconds = 0.0
        start = now()
        self.run()
        self.times.append((now() - start, self.encoding.seconds, guide.seconds))

    def seconds(self, of_guide: bool) -> list[float]:
        """Seconds of each turn, with the second model's own or without."""
        return [whole - (0 if of_guide else guide) for whole, _, guide in self.times]

    def outside(self) -> float:
        """The share of the time that is spent outside the encoder."""
        return statistics.median((whole - encoding) / whole for whole, encoding, _ in self.times)


def table(model: Backbone, guide: Backbone, names: list[str], repeats: int, peak: Callable[[list[str]], str]) -> None:
    """Every recipe alone and all of them in one pass, each against one recipe."""
    runs: dict[str, Photograph] = {}
    for name in dict.fromkeys([ONE, *names]):
        try:
            alone = Photograph(model, guide, [name])
            alone.run()
        except UserError as error:  # a recipe that is told more than a picture, such as the true labels
            print(f"left out: {error}")
        else:
            runs[name] = alone
    together = list(runs)
    runs[ALL] = Photograph(model, guide, together)
    clock = Clock()
    clock.modules(guide.model)
    for _ in range(repeats + 1):
        for run in runs.values():
            run.turn(clock)
    print(f"{'recipe':20} images/s   × one   × one without the second model   outside the encoder   peak MiB")
    for name, run in runs.items():
        del run.times[0]  # warms up
        print(
            f"{name:20} {1 / statistics.median(run.seconds(True)):8.2f} {ratio(run.seconds(True), runs[ONE].seconds(True)):7.2f} "
            f"{ratio(run.seconds(False), runs[ONE].seconds(False)):32.2f} {run.outside():21.1%} "
            f"{peak(together if name == ALL else [name]):>10}",
            flush=True,
        )


def peak_here(model: Backbone, guide: Backbone, names: list[str]) -> float:
    """MiB at the peak of one run in this process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    Photograph(model, guide, names).run()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def peak_elsewhere(model: str, guide: str, names: list[str]) -> str:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--model", model, "--proxy", guide, "--measure", "--recipe", *names]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]


@torch.inference_mode()
def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--model", default="clip_vitb16")
    words.add_argument("--proxy", default="dino_vits16", help="the second model")
    words.add_argument("--image-size", type=int, default=224)
    words.add_argument("--batch-size", type=int, default=4)
    words.add_argument("--repeats", type=int, default=9)
    words.add_argument("--recipe", nargs="+", default=EVERY, help="what the table has; by default all")
    words.add_argument("--no-memory", action="store_true", help="leave out the peaks, which need a process each")
    words.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    model, guide = clearclip.load(given.model, random=True), clearclip.load(given.proxy, random=True)
    if given.measure:
        return print(f"{peak_here(model, guide, given.recipe):.0f}")
    print(
        f"{given.model}, {model.weights.name} weights, {given.batch_size} images of {given.image_size} px, {model.device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    images = torch.randn(given.batch_size, 3, given.image_size, given.image_size, device=model.device)
    against_plain(model, images, given.repeats)
    print(
        f"a photograph of 500 × 375, {CLASSES} classes; second model {given.proxy}, {guide.weights.name} weights",
        flush=True,
    )
    peak = (lambda names: "–") if given.no_memory else partial(peak_elsewhere, given.model, given.proxy)
    table(model, guide, given.recipe, given.repeats, peak)


if __name__ == "__main__":
    main()
