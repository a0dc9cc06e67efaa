"""Memory and cost per picture of statistics over a stream of drawn pictures, on one core: neither may grow with their number.

python benchmarks/scale.py                    # 100,000 pictures
python benchmarks/scale.py --pictures 2000    # a trial
"""

import argparse
import math
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from webdataset import ShardWriter

import analysis
import clearclip
from analysis.shards.collection import PART
from clearclip.datasets.drawn.scenes import Scenes

SIZE = 64  # pixels
MARKS = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the pictures, where memory is looked at
DRAWN = 1000  # different scenes; every picture is one of them with noise of its own
PER_SHARD = 4 * PART


def draw(folder: Path, count: int) -> str:
    """Tar shards of scenes with noise, in WebDataset's layout."""
    scenes = Scenes("train", min(count, DRAWN), SIZE)
    pictures = [np.asarray(scenes[i].image, np.int16) for i in range(len(scenes))]
    random = np.random.default_rng(0)
    with ShardWriter(f"{folder}/%05d.tar", maxcount=PER_SHARD, verbose=0) as writer:
        for i in range(count):
            picture = pictures[i % len(pictures)] + random.integers(-8, 9, (SIZE, SIZE, 1))
            writer.write({"__key__": f"{i:08}", "jpg": Image.fromarray(picture.clip(0, 255).astype(np.uint8))})
    return f"webdataset:{folder}/{{00000..{(count - 1) // PER_SHARD:05}}}.tar"


class Watch(threading.Thread):
    """Notes time and memory whenever parts have been written, looking twice a second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.process = folder, psutil.Process()
        self.notes = [self.note(0)]

    def note(self, parts: int) -> tuple[int, float, float]:
        """Parts, seconds of the processor's time, MiB."""
        return parts, time.process_time(), self.process.memory_info().rss / 2**20

    def look(self) -> None:
        """Note what has come since the last look."""
        parts = len(list(self.folder.glob("*/*.npz")))
        if parts > self.notes[-1][0]:
            self.notes.append(self.note(parts))

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            self.look()
            time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clip_tiny")
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--image-size", type=int, default=SIZE)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source = draw(Path(folder), args.pictures)
        parts = Path(folder) / "parts"
        model = clearclip.load(args.model, device="cpu")
        how = {"image_size": args.image_size, "batch_size": args.batch_size, "progress": False}
        watch = Watch(parts)
        watch.start()
        begun, worked = time.perf_counter(), time.process_time()
        result = analysis.collect_shards(model, source, parts, **how)
        passed, worked = time.perf_counter() - begun, time.process_time() - worked
        watch.look()
        again = time.process_time()
        analysis.collect_shards(model, source, parts, **how)  # reads no picture
        again = time.process_time() - again
        if result.attrs["images"] != args.pictures:
            raise SystemExit(f"{result.attrs['images']} of {args.pictures} pictures were measured")
        rows = analysis.open_parts(parts).count_rows()
        written = sum(file.stat().st_size for file in parts.rglob("*.*"))
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes here
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        print(f"{args.model}, {args.pictures:,} pictures at {args.image_size} px, batches of {args.batch_size}")
        print("pictures measured   memory (MiB)   ms of one core per picture, since the line above")
        before, then, _ = watch.notes[0]
        for wanted in dict.fromkeys(math.ceil(mark * watch.notes[-1][0]) for mark in MARKS):
            number, when, memory = next(note for note in watch.notes if note[0] >= wanted)
            pictures = min(number * PART, args.pictures) - before * PART
            print(
                f"{before * PART + pictures:>17,}   {memory:>12.0f}   {1000 * (when - then) / max(1, pictures):>47.2f}"
            )
            before, then = number, when
        print(
            f"peak {peak:.0f} MiB; whole run {passed:.0f} s, {1000 * worked / args.pictures:.2f} ms of one core per picture"
        )
        print(f"gone over again: {1000 * again / watch.notes[-1][0]:.1f} ms per part of {PART} pictures")
        print(f"written {written / args.pictures:.0f} bytes per picture, {rows:,} rows")


if __name__ == "__main__":
    main()
