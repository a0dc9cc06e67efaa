"""Peak memory of `analysis.collect` must not grow with the number of images: 2,000 against 50.

python -m benchmarks.memory
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import Row, peak_memory, row, show

NAME = "memory"


def draw(folder: Path, count: int) -> None:
    """Small JPEGs of noise, of changing size and shape."""
    random = np.random.default_rng(0)
    for i in range(count):
        pixels = random.integers(0, 256, (*random.integers(64, 129, 2), 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05}.jpg")


def measure(model: str, folder: Path, limit: int, image_size: int) -> None:
    """Collect in this process and print its peak resident memory in MiB."""
    import analysis
    import clearclip

    result = analysis.collect(
        clearclip.load(model, random=True, device="cpu"), folder, limit=limit, image_size=image_size, progress=False
    )
    if result.sizes["image"] != limit:
        raise SystemExit(f"{result.sizes['image']} of {limit} images were measured")
    print(peak_memory())


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino_vits16")
    parser.add_argument("--images", type=int, nargs=2, default=[50, 2000], metavar=("FEW", "MANY"))
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    args = options().parse_args()
    if args.measure is not None:
        return measure(args.model, args.measure, args.images[1], args.image_size)
    show(rows(args), f"{args.model}, random weights, images of {args.image_size} px")


def rows(args: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    few, many = args.images
    peaks: dict[int, list[float]] = {few: [], many: []}
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), many)
        for _ in range(args.repeats):
            for count, found in peaks.items():
                found.append(peak(args, folder, count))
    ratios = [b / a for a, b in zip(*peaks.values(), strict=True)]
    return [
        row(NAME, f"peak memory of {few} images", "", "MiB", peaks[few]),
        row(NAME, f"peak memory of {many} images", f"{few}", "×", ratios),
    ]


def peak(args: argparse.Namespace, folder: str, count: int) -> float:
    """MiB at the peak of a process that collects statistics of so many images."""
    words = [
        "--model",
        args.model,
        "--image-size",
        str(args.image_size),
        "--images",
        "0",
        str(count),
        "--measure",
        folder,
    ]
    command = [sys.executable, "-m", "benchmarks.memory", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
