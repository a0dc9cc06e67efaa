"""Peak memory of `analysis.collect` must not grow with the number of images: 2,000 against 50.

python benchmarks/memory.py
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


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
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes here
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino_vits16")
    parser.add_argument("--images", type=int, nargs=2, default=[50, 2000], metavar=("FEW", "MANY"))
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    few, many = args.images
    if args.measure is not None:
        return measure(args.model, args.measure, many, args.image_size)

    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), many)
        for _ in range(args.repeats):
            peaks = []
            for count in (few, many):
                command = [
                    sys.executable,
                    __file__,
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
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                peaks.append(float(done.stdout.split()[-1]))
                print(
                    f"{args.model}, random weights, {count:>5} images of {args.image_size} px: {peaks[-1]:7.1f} MiB at the peak"
                )
            print(f"ratio {peaks[1] / peaks[0]:.4f}", flush=True)


if __name__ == "__main__":
    main()
