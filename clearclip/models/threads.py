"""How many threads a model is given: small steps are slower on many, above all beside other work on the same machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from clearclip.models.backbone import Backbone

WORK = 2**26  # multiplications in a block that are worth a thread: a few milliseconds


def threads_for(model: Backbone, tokens: int) -> int:
    """How many threads a model is worth on the CPU, at most those that PyTorch has.

    Threads wait for each other several times in a block. Where a block takes microseconds, this costs more than the
    threads give; where other programs take a core, a waiting thread keeps the others from working, by a factor of ten and more.

    Args:
        model: any `Backbone`.
        tokens: how many go through it at once.

    >>> import clearclip
    >>> threads_for(clearclip.load("clip_tiny", device="cpu"), 256)
    1
    """
    return max(1, min(torch.get_num_threads(), 12 * model.width**2 * tokens // WORK))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, PyTorch works with so many threads on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
