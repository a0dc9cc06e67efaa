"""What attribution costs: all heads and FFNs of one picture toward some texts, against a plain forward pass of the same model.

    python benchmarks/attribution.py --model clip_vitb16 --texts 20 --repeats 9

Repeats are interleaved; a ratio is the median of the ratios within one repeat. With a model that is not shipped the weights are
random, which changes no time.
"""

import argparse
import statistics
import time

import torch

import clearclip
from analysis.attribution.parts import decompose
from analysis.attribution.readout import Readout
from clearclip.methods.recipes import recipe
from clearclip.models.names import SHIPPED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clip_vitb16")
    parser.add_argument("--recipe", nargs="+", default=["clip", "clearclip"])
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    model = clearclip.load(options.model, random=options.model not in SHIPPED)
    images = torch.randn(options.batch_size, 3, model.image_size, model.image_size, device=model.device)
    width = model.project(torch.zeros(1, 1, model.width, device=model.device)).shape[-1]
    readout = Readout(model, torch.randn(options.texts, width))
    measured = {"plain": lambda: model(images)} | {
        name: lambda name=name: decompose(readout, images, recipe(name)) for name in options.recipe
    }
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    with torch.inference_mode():
        for repeat in range(options.repeats + 1):  # the first one warms up
            for name, run in measured.items():
                start = time.perf_counter()
                run()
                if repeat:
                    seconds[name].append(time.perf_counter() - start)
    weights = "shipped weights" if options.model in SHIPPED else "random weights"
    size = f"{model.image_size} pixels, {options.batch_size} at once, {options.texts} texts"
    print(
        f"{options.model} ({weights}), {size}, {model.device}, {torch.get_num_threads()} threads, {options.repeats} repeats"
    )
    print(f"plain forward pass: {1000 * statistics.median(seconds['plain']):.1f} ms")
    for name in options.recipe:
        ratios = [own / plain for own, plain in zip(seconds[name], seconds["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(f"attribution, recipe {name}: {middle:.2f} × a plain forward pass (quartiles {low:.2f} … {high:.2f})")


if __name__ == "__main__":
    main()
