"""A drawn training set: all pictures in one array, kept on disk between runs."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from clearclip import outputs
from clearclip.datasets.base import Sample
from clearclip.datasets.drawn.scenes import Scenes
from clearclip.zoo import PREPROCESS


def stack(samples: list[Sample]) -> np.ndarray:
    """Pictures as one array (B, 3, H, W) of bytes."""
    return np.stack([np.asarray(sample.image).transpose(2, 0, 1) for sample in samples])


def drawn(scenes: Scenes, folder: Path, workers: int = 2) -> Tensor:
    """All pictures of a set (N, 3, H, W) uint8, drawn by worker processes once and read from ``folder`` later."""
    file = folder / f"{scenes.split}-{scenes.kind}-{scenes.size}px-seed{scenes.seed}-{len(scenes)}.npy"
    if not file.exists():
        outputs.refuse_unwritable(file)
        loader: DataLoader[Any] = DataLoader(scenes, batch_size=64, num_workers=workers, collate_fn=stack)
        pictures = np.concatenate(list(tqdm(loader, desc=f"draw {file.stem}", unit_scale=64, unit=" pictures")))
        content = io.BytesIO()
        np.save(content, pictures)
        outputs.write(file, content.getbuffer())
    return torch.from_numpy(np.load(file))


def normalise(pictures: Tensor) -> Tensor:
    """Bytes (B, 3, H, W) as the models want them: float32 with the mean and deviation of `PREPROCESS`."""
    mean, std = (torch.tensor(PREPROCESS[key], device=pictures.device).view(3, 1, 1) for key in ("mean", "std"))
    return (pictures.float() / 255 - mean) / std
