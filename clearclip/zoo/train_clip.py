"""Train ``clip_tiny`` on drawn scenes and their captions: ``python -m clearclip.zoo.train_clip``.

A step's randomness depends on the seed and the step alone, so a run that was stopped continues as if it had not been.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import trange

from clearclip.cli import parse, run
from clearclip.datasets.drawn.captions import FACTS, Caption, caption, facts
from clearclip.datasets.drawn.scenes import Scenes
from clearclip.zoo import CLIP_TINY, PREPROCESS, save_clip_tiny, tokenizer
from clearclip.zoo.pictures import drawn, normalise
from clearclip.zoo.training import Checkpoint, learning_rate, loss_figure, optimizer


@dataclass
class Config:
    """How `clip_tiny` is trained; the defaults are what the shipped weights were made with."""

    folder: Path = Path("runs/clip_tiny")  # checkpoint, loss figure and final weights; an existing run is continued
    pictures: Path = Path("runs/pictures")  # the drawn training set
    count: int = 12_000  # single things, and as many scenes
    seed: int = 0
    steps: int = 1_800
    batch: int = 128
    peak: float = 1e-3  # learning rate
    warmup: int = 100  # steps
    weight_decay: float = 0.1
    shift: int = 4  # pixels that a picture may move either way
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 2  # on a CPU


def stated(rows: list[tuple[str, ...]]) -> Tensor:
    """Facts as indicator vectors (B, number of facts)."""
    return torch.tensor([[fact in row for fact in FACTS] for row in rows], dtype=torch.float32)


def false_negatives(captions: list[Caption], truths: list[tuple[str, ...]]) -> Tensor:
    """Pairs (caption, picture) off the diagonal where the caption is true of the picture as well, (B, B) bool."""
    said = stated([c.facts for c in captions])
    true = said @ stated(truths).T == said.sum(1, keepdim=True)  # (B, B): every fact said holds
    return true & ~torch.eye(len(captions), dtype=torch.bool)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, ignored: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy of unit vectors (B, D), without the ignored (text, image) pairs (B, B)."""
    logits = (scale * text @ image.T).masked_fill(ignored, -torch.inf)  # (B, B)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def augmented(pictures: Tensor, shift: int, rng: np.random.Generator) -> Tensor:
    """Pictures (B, 3, H, W) uint8, mirrored or not and moved a little, normalised."""
    size = pictures.shape[-1]
    row, column = rng.integers(0, 2 * shift + 1, 2)
    moved = F.pad(normalise(pictures), [shift] * 4, mode="replicate")[..., row : row + size, column : column + size]
    return moved.flip(-1) if rng.random() < 0.5 else moved


def main(config: Config) -> None:
    """The command `python -m clearclip.zoo.train_clip`."""
    torch.set_num_threads(config.threads)
    sets = [
        Scenes("train", config.count, PREPROCESS["size"], seed=config.seed, kind=kind) for kind in ("single", "scene")
    ]
    pictures = torch.cat([drawn(scenes, config.pictures) for scenes in sets])  # (N, 3, H, W)
    contents = [(scene.nouns, scene.stuff) for scenes in sets for scene in map(scenes.scene, range(len(scenes)))]

    torch.manual_seed(config.seed)  # after the drawing, which uses random numbers only where it is still to be done
    model = CLIP(**CLIP_TINY).to(config.device)
    adam, tokens = optimizer(model, config.weight_decay), tokenizer()
    checkpoint, parts = Checkpoint(config.folder / "checkpoint.pt"), {"model": model, "optimizer": adam}
    losses = checkpoint.read(parts)
    bar = trange(len(losses), config.steps, initial=len(losses), total=config.steps, desc="clip_tiny")
    for step in bar:
        rng = np.random.default_rng([config.seed, step])
        chosen = rng.integers(0, len(pictures), config.batch)
        shown = [contents[i] for i in chosen]
        captions = [caption(things, stuff, rng) for things, stuff in shown]
        ignored = false_negatives(captions, [facts(things, stuff) for things, stuff in shown]).to(config.device)
        image = augmented(pictures[chosen].to(config.device), config.shift, rng)  # (B, 3, H, W)
        text = tokens([c.text for c in captions]).to(config.device)  # (B, T)

        # Written out, attention over 65 short tokens trains twice as fast on a CPU as the fused kernel.
        with (
            torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.precision == "bfloat16"),
            sdpa_kernel(SDPBackend.MATH),
        ):
            image_features, text_features, scale = model(image, text)
        loss = contrastive_loss(image_features.float(), text_features.float(), scale, ignored)
        for group in adam.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.peak, config.warmup)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        model.logit_scale.data.clamp_(max=np.log(100))  # as CLIP does
        losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses[-25:]):.3f}", refresh=False)
        checkpoint.write(parts, losses)
    checkpoint.write(parts, losses, now=True)
    loss_figure(losses, config.folder / "loss.png", "clip_tiny: contrastive loss")
    save_clip_tiny(model, config.folder / "clip_tiny.safetensors")


if __name__ == "__main__":
    run(lambda: main(parse(Config, __doc__)))
