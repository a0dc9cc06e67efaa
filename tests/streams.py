"""Drawn pictures in shards, and a run over them that torchrun can start, one process of which is killed once.

python -m torch.distributed.run --nproc-per-node 2 --max-restarts 1 tests/streams.py PARTS MARKER RESULT
"""

import io
import os
import signal
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import clearclip
from analysis.scale.collection import collect_shards
from analysis.scale.sources import Example, Shards
from clearclip import cli
from clearclip.runs import results
from clearclip.runs.processes import processes

LENGTHS, BROKEN = (10, 13, 3), (1, 5)  # pictures of each shard; the one that cannot be decoded
STATISTICS = ["entropy", "frobenius_norm", "channel_mean"]


def png(number):
    """A small picture as the bytes of a file."""
    pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


class Drawn(Shards):
    """Shards of drawn pictures; where there is a `marker` to be made, the last picture of shard 1 kills its process, once."""

    name, labels = "drawn", [f"drawn {shard}" for shard in range(len(LENGTHS))]

    def __init__(self, marker=None, stamp="as ever", seed=0):
        self.marker, self.stamped, self.seed, self.shards_read = marker, stamp, seed, []

    def stamp(self, shard):
        return self.stamped

    def read(self, shard):
        self.shards_read.append(shard)
        for i in range(LENGTHS[shard]):
            if self.marker and shard == 1 and i == LENGTHS[1] - 1 and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            content = b"broken" if (shard, i) == BROKEN else png(100 * shard + i + self.seed)
            yield Example(f"{i}.png", content)


def measure(shards, folder, **how):
    """A small run."""
    how = {"image_size": 32, "batch_size": 2, "part": 4, "progress": False} | how
    return collect_shards(clearclip.load("clip_tiny", device="cpu"), shards, folder, STATISTICS, **how)


def main():
    parts, marker, result = map(Path, sys.argv[1:])
    whole = measure(Drawn(marker), parts)
    processes().leave_the_rest_to_the_first()
    results.write(whole, result)


if __name__ == "__main__":
    cli.run(main)
