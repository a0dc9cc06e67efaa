"""What a small CLIP shows on unseen scenes, patch by patch: fast enough to be asked many times during a training."""

from collections.abc import Iterable, Sequence
from math import log

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from open_clip import OPENAI_IMAGENET_TEMPLATES
from open_clip.model import CLIP
from torch import Tensor

from clearclip.datasets.drawn.scenes import CLASSES, CLASSES_WITH_BACKGROUND, Scenes
from clearclip.datasets.drawn.things import THINGS
from clearclip.methods.dense import DenseEncoder
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.models.backbone import Backbone
from clearclip.models.open_clip import OpenClipBackbone
from clearclip.models.weights import Weights
from clearclip.zoo import PREPROCESS, tokenizer
from clearclip.zoo.pictures import normalise, stack

ALPHAS = (0.1, 0.5, 1.0, 2.0, 10.0, 100.0)
BETAS = (0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 1.0)
NAMED = {
    "scenes": CLASSES,
    "scenes_things": THINGS,
    "scenes_background": CLASSES_WITH_BACKGROUND,
}  # names to choose from
IGNORED = 255


def recipes(depth: int) -> list[Recipe]:
    """The methods, the three feature maps, and the sweeps of the paper: Table 1, Fig. 6 and Table 4."""
    surgery = RECIPES["clip_surgery"]
    return [
        *(RECIPES[name] for name in ("clip", "maskclip", "sclip", "clearclip")),
        Recipe(surgery.name, surgery.affinity, ffn=False, stream=min(depth, surgery.stream)),
        Recipe("X_res", alpha=0, ffn=False),
        Recipe("X_sum", ffn=False),
        Recipe("X_attn", residual=False, ffn=False),
        *(
            Recipe(f"{affinity} residual={int(residual)} ffn={int(ffn)}", affinity, residual, ffn)
            for affinity in ("qk", "qq", "kk", "vv", "identity")
            for residual in (True, False)
            for ffn in (True, False)
        ),
        *(Recipe(f"{a} alpha={alpha:g}", a, ffn=False, alpha=alpha) for a in ("qk", "qq") for alpha in ALPHAS),
        *(Recipe(f"beta={beta:g}", "qq", ffn=False, beta=beta) for beta in BETAS),
    ]


class Exam:
    """Unseen scenes and what is asked about them; made once, put to many models.

    Args: count: scenes. side: pixels to which they are enlarged, a multiple of the patch of 8.
    """

    def __init__(self, count: int = 200, side: int = PREPROCESS["size"], seed: int = 3) -> None:
        scenes = Scenes("test", count, PREPROCESS["size"], seed=seed)
        samples = [scenes[i] for i in range(count)]
        pixels = torch.from_numpy(stack(samples)).float()
        if side != scenes.size:
            pixels = F.interpolate(pixels, size=(side, side), mode="bilinear").round()
        self.images = normalise(pixels)  # (N, 3, S, S)
        step = PREPROCESS["size"] * 8 // side
        middle = np.stack([sample.label for sample in samples])[:, step // 2 :: step, step // 2 :: step]
        labels = torch.from_numpy(middle.astype(np.int64)).flatten(1)  # (N, hw), of each patch's middle
        thing = labels < len(THINGS)
        self.labels = {
            "scenes": labels,
            "scenes_things": labels.where(thing, IGNORED),
            "scenes_background": (labels + 1).where(thing, 0),
        }
        alone = Scenes("test", count, PREPROCESS["size"], seed=seed, kind="single")
        self.alone = normalise(torch.from_numpy(stack([alone[i] for i in range(count)])))
        self.things = torch.tensor([THINGS.index(alone.scene(i).things[0].name) for i in range(count)])

    @torch.inference_mode()
    def __call__(self, model: CLIP) -> xr.Dataset:
        """The answers of a model: mIoU per recipe and data set, entropy and maximum of X_res per block, naming."""
        backbone = OpenClipBackbone("clip", model.eval(), Weights("", "", False), dict(PREPROCESS))
        chosen = recipes(backbone.depth)
        encoder = DenseEncoder(backbone, chosen)
        features = [encoder(part) for part in self.images.split(100)]
        miou = np.empty((len(chosen), len(NAMED)), np.float32)
        things = np.empty_like(miou[:, 0])
        for column, (name, classes) in enumerate(NAMED.items()):
            text = class_embeddings(model, classes)
            for row, recipe in enumerate(chosen):
                guess = (torch.cat([part[recipe.name] for part in features]) @ text.T).argmax(-1)
                iou = ious(guess, self.labels[name], len(classes))
                miou[row, column] = iou.nanmean()
                if name == "scenes":
                    things[row] = iou[: len(THINGS)].nanmean()
        entropy, maximum = statistics(backbone, self.images[:100])
        image = F.normalize(torch.cat([model.encode_image(part) for part in self.alone.split(100)]), dim=-1)
        right = (image @ class_embeddings(model, THINGS).T).argmax(-1) == self.things
        return xr.Dataset(
            {
                "miou": (("recipe", "dataset"), miou, {"long_name": "mIoU of the patches", "units": "%"}),
                "things": ("recipe", things, {"long_name": "IoU of things in scenes", "units": "%"}),
                "entropy": ("layer", entropy, {"long_name": "normalized entropy of X_res", "units": "1"}),
                "maximum": ("layer", maximum, {"long_name": "maximum of X_res", "units": "model units"}),
                "naming": ((), 100 * right.float().mean().item(), {"long_name": "single things named", "units": "%"}),
            },
            {
                "recipe": [recipe.name for recipe in chosen],
                "dataset": list(NAMED),
                "layer": np.arange(1, backbone.depth + 1),
            },
        )


@torch.inference_mode()
def statistics(backbone: Backbone, images: Tensor) -> tuple[list[float], list[float]]:
    """Mean normalised entropy and mean maximum of X_res of each block, over the patches of images (N, 3, H, W)."""
    layers = list(range(1, backbone.depth + 1))
    inputs = backbone.block_inputs(images, layers)
    entropy, maximum = [], []
    for layer in layers:
        x = inputs[layer].x[:, backbone.prefix_tokens :].float().flatten(1)  # (N, hw·d)
        total = x.logsumexp(1)
        mean = ((x - total[:, None]).exp() * x).sum(1)
        entropy.append(((total - mean) / log(x.shape[1])).mean().item())
        maximum.append(x.amax(1).mean().item())
    return entropy, maximum


@torch.inference_mode()
def class_embeddings(model: CLIP, names: Iterable[str]) -> Tensor:
    """Each name in the 80 ImageNet templates: embedded, normalised, averaged, normalised again, (C, D)."""
    tokens = tokenizer()
    prompts: list[Tensor] = [tokens([template(name) for template in OPENAI_IMAGENET_TEMPLATES]) for name in names]
    return F.normalize(torch.stack([model.encode_text(p, normalize=True).mean(0) for p in prompts]), dim=-1)


def ious(guess: Tensor, truth: Tensor, classes: int) -> Tensor:
    """IoU of each class in percent (C,), NaN where it is neither guessed nor true; ignored places do not count."""
    known = truth != IGNORED
    pairs = torch.bincount(truth[known] * classes + guess[known], minlength=classes * classes).view(classes, classes)
    hits = pairs.diag()
    return 100 * hits / (pairs.sum(0) + pairs.sum(1) - hits)


def along(results: Sequence[xr.Dataset], steps: Sequence[int]) -> xr.Dataset:
    """Answers at several steps of one training, along a new first dimension ``step``."""
    return xr.concat(results, xr.Variable("step", list(steps), {"units": "1"}))
