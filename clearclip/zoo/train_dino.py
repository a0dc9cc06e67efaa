"""Train ``dino_tiny`` on the pictures of ``clip_tiny``, without captions: ``python -m clearclip.zoo.train_dino``.

Self-distillation as in DINO (Caron et al., 2021): the student sees large and small crops of a picture and predicts what
the teacher, a moving average of the student, says of the other large crop; centring and sharpening prevent collapse.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import trange

from clearclip.cli import options, run
from clearclip.datasets.scenes import Scenes
from clearclip.zoo import DINO_TINY, PREPROCESS, save_dino_tiny
from clearclip.zoo.pictures import drawn, normalise
from clearclip.zoo.training import Checkpoint, learning_rate, loss_figure, optimizer


@dataclass
class Config:
    """How `dino_tiny` is trained; the model card says where the shipped weights differ."""

    folder: Path = Path("runs/dino_tiny")  # checkpoint, loss figure and final weights; an existing run is continued
    pictures: Path = Path("runs/pictures")  # the drawn training set, the same as for clip_tiny
    count: int = 12_000  # single things, and as many scenes
    seed: int = 0
    steps: int = 1_100
    batch: int = 32
    large: tuple[float, float] = (0.6, 1.0)  # share of the picture's area in each of the two large crops
    small: tuple[float, float] = (0.3, 0.6)  # and in each small crop, at half the side
    small_crops: int = 4
    prototypes: int = 1024  # outputs of the head
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    centre_momentum: float = 0.9
    momentum: float = 0.99  # of the teacher, rising to 1
    frozen: int = 100  # steps during which the prototypes stay as they are
    peak: float = 5e-4  # learning rate
    warmup: int = 100  # steps
    weight_decay: float = 0.04
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 2  # on a CPU


class Student(nn.Module):
    """The vision transformer and DINO's head: three layers, a unit vector, its cosines with the prototypes."""

    def __init__(self, prototypes: int, hidden: int = 256, bottleneck: int = 64) -> None:
        super().__init__()
        self.trunk = VisionTransformer(**DINO_TINY)
        self.mlp = nn.Sequential(
            nn.Linear(self.trunk.embed_dim, hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) → cosines with the prototypes (B, K)."""
        vector = self.mlp(self.trunk(pictures))  # (B, C)
        with torch.autocast(pictures.device.type, enabled=False):  # the temperatures magnify any rounding from here on
            return F.normalize(vector.float(), dim=-1) @ F.normalize(self.prototypes, dim=-1).T  # (B, K)


class Centre(nn.Module):
    """The moving average of the teacher's outputs, (K,); taken off, it keeps any one prototype from winning always."""

    mean: Tensor

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(prototypes))

    def update(self, outputs: Tensor) -> None:
        """Take in the teacher's outputs (2, B, K) of one step."""
        self.mean.lerp_(outputs.mean((0, 1)), 1 - self.momentum)


def crops(pictures: Tensor, area: tuple[float, float], side: int, rng: np.random.Generator) -> Tensor:
    """One random square crop of each picture (B, 3, H, W), mirrored or not, as (B, 3, side, side)."""
    count = len(pictures)
    scale = np.sqrt(rng.uniform(*area, count))
    mirror = rng.choice([-1.0, 1.0], count)
    centre = rng.uniform(-1, 1, (count, 2)) * (1 - scale)[:, None]
    zero = np.zeros(count)
    affine = np.stack([scale * mirror, zero, centre[:, 0], zero, scale, centre[:, 1]], -1).reshape(count, 2, 3)
    theta = torch.tensor(affine, dtype=torch.float32, device=pictures.device)
    grid = F.affine_grid(theta, [count, 3, side, side], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def recoloured(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Normalised pictures (B, 3, H, W) with other contrast, brightness and tint; a fifth grey, a third blurred."""
    count = len(pictures)

    def numbers(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=pictures.device)

    gain = numbers(rng.uniform(0.6, 1.4, (count, 1, 1, 1)) * rng.uniform(0.8, 1.2, (count, 3, 1, 1)))
    changed = pictures * gain + numbers(rng.uniform(-0.5, 0.5, (count, 1, 1, 1)))
    grey = numbers(rng.random((count, 1, 1, 1))) < 0.2
    changed = torch.where(grey, changed.mean(1, keepdim=True), changed)
    blur = numbers(rng.random((count, 1, 1, 1))) < 0.33
    return torch.where(blur, F.avg_pool2d(changed, 3, 1, 1, count_include_pad=False), changed)


def distillation_loss(student: Tensor, teacher: Tensor, config: Config) -> Tensor:
    """Cross-entropy of every student crop (V, B, K) with the centred teacher (2, B, K) on the other large crops."""
    target = (teacher / config.teacher_temperature).softmax(-1)
    log_p = (student / config.student_temperature).log_softmax(-1)
    pairs = [(t, s) for t in range(len(target)) for s in range(len(log_p)) if s != t]
    return torch.stack([-(target[t] * log_p[s]).sum(-1).mean() for t, s in pairs]).mean()


def main(config: Config) -> None:
    """The command `python -m clearclip.zoo.train_dino`."""
    torch.set_num_threads(config.threads)
    side: int = PREPROCESS["size"]
    sets = [Scenes("train", config.count, side, seed=config.seed, kind=kind) for kind in ("single", "scene")]
    pictures = torch.cat([drawn(scenes, config.pictures) for scenes in sets])  # (N, 3, H, W)

    torch.manual_seed(config.seed)  # after the drawing, which uses random numbers only where it is still to be done
    student = Student(config.prototypes).to(config.device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    centre = Centre(config.prototypes, config.centre_momentum).to(config.device)
    adam = optimizer(student, config.weight_decay)
    checkpoint = Checkpoint(config.folder / "checkpoint.pt")
    parts = {"student": student, "teacher": teacher, "centre": centre, "optimizer": adam}
    losses = checkpoint.read(parts)
    bar = trange(len(losses), config.steps, initial=len(losses), total=config.steps, desc="dino_tiny")
    for step in bar:
        rng = np.random.default_rng([config.seed, step])
        chosen = normalise(pictures[rng.integers(0, len(pictures), config.batch)].to(config.device))  # (B, 3, H, W)
        large = torch.cat([recoloured(crops(chosen, config.large, side, rng), rng) for _ in range(2)])
        small = [recoloured(crops(chosen, config.small, side // 2, rng), rng) for _ in range(config.small_crops)]

        # Written out, attention over 65 short tokens trains twice as fast on a CPU as the fused kernel.
        with (
            torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.precision == "bfloat16"),
            sdpa_kernel(SDPBackend.MATH),
        ):
            with torch.no_grad():
                told = teacher(large).view(2, config.batch, -1)  # (2, B, K)
            seen = torch.cat([student(large), student(torch.cat(small))]).view(-1, config.batch, config.prototypes)
        loss = distillation_loss(seen, told - centre.mean, config)
        centre.update(told)
        for group in adam.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.peak, config.warmup)
        adam.zero_grad()
        loss.backward()
        if step < config.frozen:
            student.prototypes.grad = None
        torch.nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        adam.step()
        momentum = 1 - (1 - config.momentum) * (1 + np.cos(np.pi * step / config.steps)) / 2
        with torch.no_grad():
            for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.lerp_(theirs, 1 - momentum)
        losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses[-25:]):.3f}", refresh=False)
        checkpoint.write(parts, losses)
    checkpoint.write(parts, losses, now=True)
    loss_figure(losses, config.folder / "loss.png", "dino_tiny: distillation loss")
    save_dino_tiny(teacher.trunk, config.folder / "dino_tiny.safetensors")


if __name__ == "__main__":
    run(lambda: main(options(Config, __doc__ or "")))
