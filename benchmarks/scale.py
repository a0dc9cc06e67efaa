"""Memory and cost per picture of statistics over a stream of drawn pictures, on one core: neither may grow with their number.

python -m benchmarks.scale                      # 100,000 pictures
python -m benchmarks.scale --pictures 2000      # a trial
"""

import argparse
import math
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from PIL import Image
from webdataset import ShardWriter

import analysis
import clearclip
from analysis.scale.collection import PART
from benchmarks.common import Row, row, show
from clearclip.datasets.drawn.scenes import Scenes

NAME = "scale"
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


class Note(NamedTuple):
    """How far a run is, and what it has taken."""

    parts: int
    seconds: float  # of the processor's time
    memory: float  # MiB


class Watch(threading.Thread):
    """Notes time and memory whenever parts have been written, looking twice a second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.process, self.done = folder, psutil.Process(), threading.Event()
        self.notes = [self.note(0)]

    def note(self, parts: int) -> Note:
        """What is so now."""
        return Note(parts, time.process_time(), self.process.memory_info().rss / 2**20)

    def run(self) -> None:
        """Until it is done, and once more then."""
        finished = False
        while not finished:
            finished = self.done.wait(0.5)
            parts = len(list(self.folder.glob("*/*.npz")))
            if parts > self.notes[-1].parts:
                self.notes.append(self.note(parts))


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clip_tiny")
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--image-size", type=int, default=SIZE)
    parser.add_argument("--batch-size", type=int, default=32)
    return parser


def main() -> None:
    args = options().parse_args()
    show(rows(args), f"{args.model}, {args.pictures:,} pictures at {args.image_size} px, batches of {args.batch_size}")


def rows(args: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return measured(args, Path(folder))
    finally:
        torch.set_num_threads(threads)


def measured(args: argparse.Namespace, folder: Path) -> list[Row]:
    """All rows of these options, with shards and parts in a folder."""
    source, parts = draw(folder, args.pictures), folder / "parts"
    model = clearclip.load(args.model, device="cpu")
    how = {"image_size": args.image_size, "batch_size": args.batch_size, "progress": False}
    watch = Watch(parts)
    watch.start()
    worked = time.process_time()
    result = analysis.collect_shards(model, source, parts, **how)
    worked = time.process_time() - worked
    watch.done.set()
    watch.join()
    again = time.process_time()
    analysis.collect_shards(model, source, parts, **how)  # reads no picture
    again = time.process_time() - again
    if result.attrs["images"] != args.pictures:
        raise SystemExit(f"{result.attrs['images']} of {args.pictures} pictures were measured")
    written = sum(file.stat().st_size for file in parts.rglob("*.*"))
    notes = watch.notes
    found, before = [], notes[0]
    for mark in MARKS:
        note = next(note for note in notes if note.parts >= math.ceil(mark * notes[-1].parts))
        pictures = min(note.parts * PART, args.pictures) - before.parts * PART
        what = f"{mark:.0%} of {args.pictures:,} pictures"
        found.append(row(NAME, f"memory after {what}", "", "MiB", [note.memory]))
        if pictures > 0:
            each = 1000 * (note.seconds - before.seconds) / pictures
            found.append(row(NAME, f"one picture up to {what}", "", "ms of one core", [each]))
        before = note
    return [
        *found,
        row(NAME, "one picture, whole run", "", "ms of one core", [1000 * worked / args.pictures]),
        row(
            NAME, f"a part of {PART} pictures, gone over again", "", "ms of one core", [1000 * again / notes[-1].parts]
        ),
        row(NAME, "written per picture", "", "bytes", [written / args.pictures]),
    ]


if __name__ == "__main__":
    main()
