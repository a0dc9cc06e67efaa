"""What is added to the logits of near patches (NACLIP, ResCLIP)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMA = 5.0  # in patches


def gaussian(grid: tuple[int, int], prefix: int = 0, sigma: float = SIGMA) -> Tensor:
    """exp(−‖p_i − p_j‖² / 2σ²) between the patches of a grid, 0 to and from prefix tokens, (L, L).

    >>> gaussian((2, 2), prefix=1).shape
    torch.Size([5, 5])
    """
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in grid), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], 1)  # (hw, 2)
    distance = (places[:, None] - places[None]).square().sum(-1)
    return F.pad(torch.exp(-distance / (2 * sigma**2)), (prefix, 0, prefix, 0))
