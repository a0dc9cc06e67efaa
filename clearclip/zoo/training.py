"""What both training scripts share: the learning rate, checkpoints, and the loss figure."""

import io
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.optim import AdamW

from clearclip import outputs
from clearclip.segmentation.style import save, style


def optimizer(model: nn.Module, weight_decay: float) -> AdamW:
    """AdamW that decays matrices but not biases, normalisations and other vectors."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, betas=(0.9, 0.98))


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, constant, then linear decay to zero over the last third.

    The constant part lets a run be made longer or shorter without changing what it has done so far.
    """
    return peak * min(1, (step + 1) / warmup, (steps - step) / (steps / 3))


class Checkpoint:
    """The state of a run in one file, written every ``every`` seconds."""

    def __init__(self, file: Path, every: float = 90) -> None:
        self.file, self.every, self.written = file, every, time.monotonic()
        outputs.refuse_unwritable(file)

    def read(self, parts: dict[str, Any]) -> list[float]:
        """Restore the parts (anything with ``load_state_dict``) and return the losses so far, none without a file."""
        if not self.file.exists():
            return []
        saved = torch.load(self.file, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        return list(saved["losses"])

    def write(self, parts: dict[str, Any], losses: Sequence[float], now: bool = False) -> None:
        """Save if it is time to; the old file stays until the new one is complete."""
        if not now and time.monotonic() - self.written < self.every:
            return
        content = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in parts.items()} | {"losses": list(losses)}, content)
        try:
            outputs.write(self.file, content.getbuffer())
        except outputs.Unwritable as error:
            if now:
                raise
            warnings.warn(f"{error} The training goes on.", stacklevel=2)
        self.written = time.monotonic()


def loss_figure(losses: Sequence[float], file: Path, title: str, window: int = 25) -> None:
    """Draw the loss of every step and its running mean."""
    with style():
        figure, axes = plt.subplots(figsize=(5, 3))
        axes.plot(losses, color="#c4c4c4", linewidth=0.5, label="each step")
        mean = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(np.arange(len(mean)) + window / 2, mean, color="#0072B2", label=f"mean of {window}")
        axes.set(xlabel="step", ylabel="loss", title=title, ylim=(0, None))
        axes.legend()
    save(figure, file)
