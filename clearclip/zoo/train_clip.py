"""Train ``clip_tiny`` on drawn scenes and their captions: ``python -m clearclip.zoo.train_clip``.

A step's randomness depends on the seed and the step alone, so a run that was stopped continues as if it had not been.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn
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
    """How `clip_tiny` is trained; how the shipped weights came from these values, its card says.

    The curriculum has two parts. First the CLS token reads single things wherever it likes, which is learnt fast. Then
    pictures hold several things, the last block and the projection begin anew, and in most steps the CLS token sees the
    patches in the last block only, so that it is the last block's values that must speak the language of the texts.
    """

    folder: Path = Path("runs/clip_tiny")  # checkpoint, loss figure and final weights; an existing run is continued
    pictures: Path = Path("runs/pictures")  # the drawn training set
    count: int = 12_000  # pictures of each kind
    first: tuple[str, ...] = ("single",)  # kinds of pictures at the beginning, equally often, see `CONTENTS`
    then: tuple[str, ...] = ("few", "large", "close")  # and at the end
    change: tuple[int, int] = (900, 1100)  # steps between which the one part of the curriculum gives way to the other
    late: float = (
        0.95  # in the second part, the share of steps in which the CLS token sees patches in the last block only
    )
    renewed: int = 900  # the step before which the last block and the visual projection begin anew; -1 for never
    query_gain: float = 2.0  # the last block's new query weights are so many times the library's
    ground: float = 0.05  # share of captions about things that name the ground, too
    part: float = 1.0  # share of captions that name one to four of the things, not nearly all
    blocks: int = CLIP_TINY["vision_cfg"]["layers"]
    seed: int = 0
    steps: int = 6_000
    batch: int = 128
    peak: float = 3e-3  # learning rate
    warmup: int = 100  # steps
    weight_decay: float = 0.02
    patch_dropout: float = 0.5  # share of the patches that are left out in training, open_clip's own option
    whole: int = 300  # steps at the end in which none is left out
    shift: int = 4  # pixels that a picture may move either way
    snapshots: int = 200  # steps between two copies of the weights that are kept, 0 for none
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 1  # on a CPU


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


def configuration(config: Config) -> dict[str, Any]:
    """open_clip's configuration of the model to train."""
    vision = {**CLIP_TINY["vision_cfg"], "layers": config.blocks, "patch_dropout": config.patch_dropout}
    return {**CLIP_TINY, "vision_cfg": vision}


class Blinds:
    """Keeps the CLS token of the first ``count`` blocks to itself: it sees no patches there; they see all, as ever."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        self.count = 0
        for i, block in enumerate(blocks):
            block.register_forward_pre_hook(partial(self._mask, i), with_kwargs=True)

    def _mask(
        self, index: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        if index >= self.count:
            return args, kwargs
        length = args[0].shape[1]
        mask = torch.zeros(length, length, device=args[0].device)
        mask[0, 1:] = -torch.inf
        return args, {**kwargs, "attn_mask": mask}


def renew(model: CLIP, adam: torch.optim.Optimizer, query_gain: float) -> None:
    """Begin the last block and the visual projection anew, so that nothing ties the residual stream to the texts."""
    block, projection = model.visual.transformer.resblocks[-1], model.visual.proj
    for module in block.modules():
        if isinstance(module, nn.MultiheadAttention):
            module._reset_parameters()
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()
    with torch.no_grad():
        block.attn.in_proj_weight[: len(projection)] *= query_gain
        projection.normal_(std=len(projection) ** -0.5)
    for parameter in (*block.parameters(), projection):
        adam.state.pop(parameter, None)


def progress(config: Config, step: int) -> float:
    """How far the change from the beginning of the curriculum to its end has come, 0 … 1."""
    begin, end = config.change
    return float(np.clip((step - begin) / max(end - begin, 1), 0, 1))


def kinds(config: Config, step: int, rng: np.random.Generator) -> list[str]:
    """The kind of each picture of a step's batch."""
    later = progress(config, step)
    return [str(rng.choice(config.then if rng.random() < later else config.first)) for _ in range(config.batch)]


def main(config: Config) -> None:
    """The command `python -m clearclip.zoo.train_clip`."""
    torch.set_num_threads(config.threads)
    checkpoint = Checkpoint(config.folder / "checkpoint.pt")
    side: int = PREPROCESS["size"]
    sets = {
        kind: Scenes("train", config.count, side, seed=config.seed, kind=kind)
        for kind in dict.fromkeys((*config.first, *config.then))
    }
    pictures = torch.cat([drawn(scenes, config.pictures) for scenes in sets.values()])  # (N, 3, H, W)
    contents = [(scene.nouns, scene.stuff) for s in sets.values() for scene in map(s.scene, range(len(s)))]
    start = {kind: i * config.count for i, kind in enumerate(sets)}

    torch.manual_seed(config.seed)  # after the drawing, which uses random numbers only where it is still to be done
    model = CLIP(**configuration(config)).to(config.device)
    blocks = model.visual.transformer.resblocks
    blinds = Blinds(blocks)
    adam, tokens = optimizer(model, config.weight_decay), tokenizer()
    parts = {"model": model, "optimizer": adam}
    losses = checkpoint.read(parts)
    bar = trange(len(losses), config.steps, initial=len(losses), total=config.steps, desc=config.folder.name)
    for step in bar:
        rng = np.random.default_rng([config.seed, step])
        torch.manual_seed(step)  # for the patches and blocks that are left out
        if step == config.renewed:
            renew(model, adam, config.query_gain)
        chosen = np.array([start[kind] + rng.integers(config.count) for kind in kinds(config, step, rng)])
        shown = [contents[i] for i in chosen]
        captions = [caption(things, stuff, rng, config.ground, config.part) for things, stuff in shown]
        ignored = false_negatives(captions, [facts(things, stuff) for things, stuff in shown]).to(config.device)
        image = augmented(pictures[chosen].to(config.device), config.shift, rng)  # (B, 3, H, W)
        text = tokens([c.text for c in captions]).to(config.device)  # (B, T)

        blinds.count = len(blocks) - 1 if rng.random() < config.late * progress(config, step) else 0
        model.visual.patch_dropout.prob = config.patch_dropout if step < config.steps - config.whole else 0.0

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
        if config.snapshots and (step + 1) % config.snapshots == 0:
            save_clip_tiny(model, config.folder / f"step{step + 1:05d}.safetensors")
    checkpoint.write(parts, losses, now=True)
    loss_figure(losses, config.folder / "loss.png", "clip_tiny: contrastive loss")
    save_clip_tiny(model, config.folder / "clip_tiny.safetensors")


if __name__ == "__main__":
    run(lambda: main(parse(Config, __doc__)))
