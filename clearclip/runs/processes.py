"""One run on several processes, machines or accelerators: what torchrun starts, each takes a share of the pictures."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from torch import distributed
from tqdm.auto import tqdm

from clearclip.errors import Finished


class Processes:
    """This process among those of a run; alone, it is number 0 of 1.

    >>> group = Processes(1, 4)
    >>> group.share(["a", "b", "c", "d", "e", "f"]), group.own(Path("x.unfinished.nc")).name
    (['b', 'f'], 'x.unfinished.1-of-4.nc')
    """

    def __init__(self, number: int = 0, count: int = 1) -> None:
        self.number, self.count = number, count

    def share(self, batches: list[Any]) -> list[Any]:
        """The batches that this process takes. Batches are never divided, so that they give the same bits anywhere."""
        return batches[self.number :: self.count]

    def own(self, file: Path) -> Path:
        """A file name that no other process of the run has."""
        return file if self.count == 1 else file.with_name(f"{file.stem}.{self.number}-of-{self.count}{file.suffix}")

    def tell(self, message: str) -> None:
        """Print beside a progress bar; only the first process has a stdout, so the others use stderr."""
        tqdm.write(message, file=sys.stderr if self.number else None)

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in order, in each of them."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def leave_the_rest_to_the_first(self) -> None:
        """Go on alone in the first process, which prints and writes the result; raises `Finished` in all others."""
        if self.count > 1:
            distributed.barrier()
            distributed.destroy_process_group()
        if self.number > 0:
            raise Finished(f"process {self.number} of {self.count} has done its share.")
        self.count = 1  # from here on the first is alone


@cache
def processes() -> Processes:
    """The processes that torchrun has started, which meet here for the first time; one process without torchrun.

    Values are exchanged with gloo, which every machine has: a run exchanges a few megabytes, once.
    """
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        return Processes()
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return Processes(distributed.get_rank(), distributed.get_world_size())
