"""Train ``dino_tiny`` on the pictures of ``clip_tiny``, without captions: ``python -m clearclip.zoo.train_dino``.

Self-distillation as in DINO (Caron et al., 2021): the student sees large and small crops of a picture and predicts what
the teacher, a moving average of the student, says of the other large crop. Sinkhorn-Knopp balancing as in DINOv2 makes
the teacher use all prototypes equally, and the batches become hard: pictures of the same look, which mostly lie on the
same ground, so that the ground does not tell which crops belong together.
"""

import copy
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn
from tqdm.auto import trange

from clearclip.cli import parse, run
from clearclip.datasets.drawn.scenes import Scenes
from clearclip.zoo import DINO_TINY, PREPROCESS, save_dino_tiny
from clearclip.zoo.pictures import drawn, normalise
from clearclip.zoo.training import Checkpoint, learning_rate, loss_figure, optimizer


@dataclass
class Config:
    """How `dino_tiny` is trained; the shipped weights come from these values."""

    folder: Path = Path("runs/dino_tiny")  # checkpoint, loss figure and final weights; an existing run is continued
    pictures: Path = Path("runs/pictures")  # the drawn training set, the same as for clip_tiny
    count: int = 12_000  # pictures of each kind
    kinds: tuple[str, str] = ("single", "large")  # see `CONTENTS`
    seed: int = 0
    steps: int = 1_500
    batch: int = 32
    single: float = 0.75  # share of the first kind in training
    alike: int = 16  # a batch is the most alike among this many times its size
    hardening: int = 400  # steps from random batches to those
    large: tuple[float, float] = (0.6, 1.0)  # share of the picture's area in each of the two large crops
    large_side: int = 48  # pixels
    small: tuple[float, float] = (0.4, 0.8)  # and in each small crop
    small_side: int = 32
    small_crops: int = 4
    prototypes: int = 1024  # outputs of the head
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    momentum: float = 0.99  # of the teacher, rising to 1 as the learning rate falls
    frozen: int = 20  # steps during which the prototypes stay as they are
    peak: float = 1e-3  # learning rate
    warmup: int = 30  # steps
    weight_decay: float = 0.3  # less lets the residual stream grow from block to block
    precision: Literal["bfloat16", "float32"] = "float32"
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 1  # on a CPU


class Student(nn.Module):
    """The vision transformer and DINO's head: three layers, a unit vector, its cosines with the prototypes.

    The head normalises over the batch: untrained features differ so little that it could not tell pictures apart.
    """

    def __init__(self, prototypes: int, hidden: int = 256, bottleneck: int = 64) -> None:
        super().__init__()
        self.trunk = VisionTransformer(**DINO_TINY)
        sizes = (self.trunk.embed_dim, hidden, hidden, bottleneck)
        layers: list[nn.Module] = []
        for size, following in itertools.pairwise(sizes):
            layers += [nn.BatchNorm1d(size, track_running_stats=False), nn.GELU(), nn.Linear(size, following)]
        self.mlp = nn.Sequential(layers[0], *layers[2:])  # no GELU on the features themselves
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) → cosines with the prototypes (B, K)."""
        vector = self.mlp(self.trunk(pictures))  # (B, C)
        with torch.autocast(pictures.device.type, enabled=False):  # the temperatures magnify any rounding from here on
            return F.normalize(vector.float(), dim=-1) @ F.normalize(self.prototypes, dim=-1).T  # (B, K)


def look(pictures: Tensor) -> Tensor:
    """What is seen of pictures (B, 3, H, W) at a glance: mean, deviation and unevenness of each colour, (B, 12)."""
    down, across = (pictures.diff(dim=axis).abs().mean((2, 3)) for axis in (2, 3))
    return torch.cat([pictures.mean((2, 3)), pictures.std((2, 3)), 3 * down, 3 * across], 1)


def most_alike(looks: Tensor, count: int) -> Tensor:
    """The indices (count,) of the looks (N, C) that point most in the direction of the first."""
    return (looks @ looks[0]).topk(count).indices


def balanced(outputs: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """Sinkhorn-Knopp: outputs (V, B, K) as distributions over the prototypes, all of which are used equally."""
    share = (outputs.flatten(0, 1) / temperature).softmax(-1)  # (V·B, K)
    for _ in range(rounds):
        share = share / share.sum(0, keepdim=True)
        share = share / share.sum(1, keepdim=True)
    return share.view_as(outputs)


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


def distillation_loss(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of every student crop (V, B, K) with the teacher's distribution (2, B, K) on other large crops."""
    log_p = (student / temperature).log_softmax(-1)
    pairs = [(t, s) for t in range(len(target)) for s in range(len(log_p)) if s != t]
    return torch.stack([-(target[t] * log_p[s]).sum(-1).mean() for t, s in pairs]).mean()


def main(config: Config) -> None:
    """The command `python -m clearclip.zoo.train_dino`."""
    torch.set_num_threads(config.threads)
    checkpoint = Checkpoint(config.folder / "checkpoint.pt")
    side: int = PREPROCESS["size"]
    sets = [Scenes("train", config.count, side, seed=config.seed, kind=kind) for kind in config.kinds]
    pictures = torch.cat([drawn(scenes, config.pictures) for scenes in sets])  # (N, 3, H, W)
    looks = torch.cat([look(normalise(part)) for part in pictures.split(1_000)])  # (N, 12)
    looks = F.normalize(looks - looks.mean(0), dim=-1)

    torch.manual_seed(config.seed)  # after the drawing, which uses random numbers only where it is still to be done
    student = Student(config.prototypes).to(config.device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    adam = optimizer(student, config.weight_decay)
    parts = {"student": student, "teacher": teacher, "optimizer": adam}
    losses = checkpoint.read(parts)
    bar = trange(len(losses), config.steps, initial=len(losses), total=config.steps, desc="dino_tiny")
    for step in bar:
        rng = np.random.default_rng([config.seed, step])
        hardness = 1 + round((config.alike - 1) * min(1, step / config.hardening))
        index = rng.integers(0, config.count, config.batch * hardness)
        index += config.count * (rng.random(len(index)) >= config.single)  # the second kind comes after the first
        index = index[most_alike(looks[index], config.batch).numpy()]
        chosen = normalise(pictures[index].to(config.device))  # (B, 3, H, W)
        large = torch.cat([recoloured(crops(chosen, config.large, config.large_side, rng), rng) for _ in range(2)])
        small = torch.cat(
            [recoloured(crops(chosen, config.small, config.small_side, rng), rng) for _ in range(config.small_crops)]
        )

        with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            with torch.no_grad():
                told = teacher(large).view(2, config.batch, -1)  # (2, B, K)
            seen = torch.cat([student(large), student(small)]).view(-1, config.batch, config.prototypes)
        target = balanced(told, config.teacher_temperature)
        loss = distillation_loss(seen, target, config.student_temperature)
        for group in adam.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.peak, config.warmup)
        adam.zero_grad()
        loss.backward()
        if step < config.frozen:
            student.prototypes.grad = None
        torch.nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        adam.step()
        momentum = 1 - (1 - config.momentum) * learning_rate(step, config.steps, 1, 1)
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
    run(lambda: main(parse(Config, __doc__)))
