"""Values on their way from a device, while the program goes on giving it work."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Arriving:
    """A tensor that a device computes, on its way to the CPU."""

    host: Tensor
    event: torch.cuda.Event | None

    def wait(self) -> Tensor:
        """The tensor on the CPU, once the device has come as far as it was when the copy was asked for."""
        if self.event is not None:
            self.event.synchronize()
        return self.host


def arriving(tensor: Tensor) -> Arriving:
    """Begin to copy a tensor to the CPU; only CUDA can do so beside other work.

    >>> arriving(torch.ones(2)).wait()
    tensor([1., 1.])
    """
    if tensor.device.type != "cuda":
        return Arriving(tensor.cpu(), None)
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return Arriving(host, event)
