"""Which precision a machine is fastest in without losing its way."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

BF16_FLAGS = {"amx_bf16", "avx512_bf16"}  # what Linux calls the registers of CPUs that multiply bf16


def advised(device: torch.device) -> Literal["fp32", "bf16"]:
    """The precision that is worth a trial on a device: bf16 where the hardware multiplies it, else fp32.

    fp16 is never advised, since the residual of some models overflows in it.

    >>> advised(torch.device("mps"))
    'fp32'
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and flags() & BF16_FLAGS else "fp32"


def flags() -> set[str]:
    """What the CPU can do, in Linux's words; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
