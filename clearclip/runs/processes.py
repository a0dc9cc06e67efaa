"""One run on several processes, machines or accelerators: what torchrun starts, each takes a share of the pictures."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from torch import distributed
from torch.distributed.rendezvous import rendezvous
from tqdm.auto import tqdm

from clearclip import torchrun
from clearclip.errors import Finished, UserError

MEET = timedelta(minutes=30)  # until all processes have started
WAIT = timedelta(days=365)  # until the longest share is done; when a process dies the others hear of it at once


class Processes:
    """This process among those of a run; alone, it is number 0 of 1.

    >>> group = Processes(1, 4)
    >>> group.share(["a", "b", "c", "d", "e", "f"]), group.own(Path("x.unfinished.nc")).name
    (['b', 'f'], 'x.unfinished.1-of-4.nc')
    """

    def __init__(self, number: int = 0, count: int = 1, patient: Any = None) -> None:
        self.number, self.count = number, count
        self.patient = patient  # torch's group that waits without a deadline
        self.first = number == 0  # only the first process has a stdout

    def alone(self) -> Processes:
        """This process with all batches for itself; what it tells goes where it went before."""
        alone = Processes()
        alone.first = self.first
        return alone

    def share(self, batches: list[Any]) -> list[Any]:
        """The batches that this process takes. Batches are never divided, so that they give the same bits anywhere."""
        return batches[self.number :: self.count]

    def own(self, file: Path) -> Path:
        """A file name that no other process of the run has."""
        return file if self.count == 1 else file.with_name(f"{file.stem}.{self.number}-of-{self.count}{file.suffix}")

    def tell(self, message: str) -> None:
        """Print beside a progress bar; the processes that have no stdout use stderr."""
        tqdm.write(message, file=None if self.first else sys.stderr)

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in order, in each of them; raises `UserError` if one of them has died."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        with self._together():
            distributed.all_gather_object(values, value, group=self.patient)
        return values

    def leave_the_rest_to_the_first(self) -> None:
        """Go on alone in the first process, which prints and writes the result; raises `Finished` in all others."""
        if self.count > 1:
            with self._together():
                distributed.barrier(group=self.patient)
            distributed.destroy_process_group()
        if self.number > 0:
            raise Finished(f"process {self.number} of {self.count} has done its share.")
        self.count = 1  # from here on the first is alone

    @contextmanager
    def _together(self) -> Iterator[None]:
        """What all processes do at once, and a message if not all of them are there."""
        try:
            yield
        except RuntimeError as error:
            raise UserError(
                f"process {self.number} of {self.count} cannot reach the others ({_first_line(error)}). One of them has "
                "ended, and its own message says why. The same command, with as many processes, goes on from what each has kept."
            ) from error


@cache
def processes() -> Processes:
    """The processes that torchrun has started, which meet here for the first time; one process without torchrun.

    Values are exchanged with gloo, which every machine has: a run exchanges a few megabytes, once.

    Raises: `UserError` if they do not meet.
    """
    number, count = torchrun.place()
    if count == 1:
        if os.environ.get("WORLD_SIZE", "1") != "1":
            warnings.warn(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(torchrun.missing())} do not say which process this "
                "is and where they meet, so it takes all pictures alone. Start several with torchrun.",
                stacklevel=2,
            )
        return Processes()
    try:
        if not distributed.is_initialized():
            _meet()
        patient = distributed.new_group(backend="gloo", timeout=WAIT)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise UserError(
            f"process {number} of {count} did not meet the others at {where} ({_first_line(error)}). Start them with "
            "torchrun, or unset WORLD_SIZE for a single process."
        ) from error
    return Processes(distributed.get_rank(), distributed.get_world_size(), patient)


def _meet() -> None:
    """Start torch's group; torchrun keeps its store when it starts processes again, with the addresses of those that are gone."""
    store, number, count = next(rendezvous("env://", timeout=MEET))
    own = distributed.PrefixStore(f"{torchrun.restarts()} {count}", store)
    distributed.init_process_group("gloo", store=own, rank=number, world_size=count, timeout=MEET)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(". This is")[0]
