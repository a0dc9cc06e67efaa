"""What do recipes cost? One and thirty of them against a plain encoding of the same images, ViT-B/16, random weights.

    python benchmarks/recipes.py

Plain is the library's own forward pass. The variants take turns, the medians of their times and of the ratios pair by
pair are printed. The last part times a whole segmentation of a 500 × 375 photo with 20 classes (text is embedded before)
and what of it is not the model.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

import clearclip
from clearclip.methods.dense import Dense, DenseEncoder
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.segmentation.segmenter import Segmenter

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
    published = [RECIPES[name] for name in ("sclip", "naclip", "gem+clearclip", "segearth_ov", "resclip_rcs+clearclip")]
    return grid + alphas + published


def medians(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each variant, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return seconds


@torch.inference_mode()
def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--model", default="clip_vitb16")
    words.add_argument("--image-size", type=int, default=224)
    words.add_argument("--batch-size", type=int, default=4)
    words.add_argument("--repeats", type=int, default=9)
    given = words.parse_args()
    model = clearclip.load(given.model, random=True)
    images = torch.randn(given.batch_size, 3, given.image_size, given.image_size, device=model.device)
    print(
        f"{given.model}, {model.weights.name} weights, {given.batch_size} images of {given.image_size} px, {model.device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )

    encoders = {
        "clip": DenseEncoder(model, ["clip"]),
        "clearclip": DenseEncoder(model, ["clearclip"]),
        "30 recipes": DenseEncoder(model, thirty()),
    }
    seconds = medians(
        {"plain": lambda: model(images), **{n: (lambda e=e: e(images)) for n, e in encoders.items()}}, given.repeats
    )
    for name, times in seconds.items():
        against_plain = statistics.median(a / b for a, b in zip(times, seconds["plain"], strict=True))
        against_one = statistics.median(a / b for a, b in zip(times, seconds["clearclip"], strict=True))
        print(
            f"{name:12} {statistics.median(times) * 1e3:8.1f} ms   {against_plain:.3f} × plain   {against_one:.3f} × one recipe"
        )

    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8))
    segmenter = Segmenter(model, ", ".join(f"class {i}" for i in range(20)), prompts="photo")
    whole, inside = [], []
    encode = DenseEncoder.encode

    def timed(encoder: DenseEncoder, *given: Any, **named: Any) -> Dense:
        start = time.perf_counter()
        result = encode(encoder, *given, **named)
        inside[-1] += time.perf_counter() - start
        return result

    DenseEncoder.encode = timed  # type: ignore[method-assign]
    for _ in range(given.repeats + 1):
        inside.append(0.0)
        start = time.perf_counter()
        segmenter(photo)
        whole.append(time.perf_counter() - start)
    DenseEncoder.encode = encode  # type: ignore[method-assign]
    outside = statistics.median((w - i) / w for w, i in zip(whole[1:], inside[1:], strict=True))
    print(
        f"segmenting 500 × 375, 20 classes: {statistics.median(whole[1:]) * 1e3:.0f} ms, {outside:.1%} of it outside the model"
    )


if __name__ == "__main__":
    main()
