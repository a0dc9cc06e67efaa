"""Models small enough for slow loops, and what these loops share: heads, inputs of blocks, comparisons."""

import copy
import itertools
from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from clearclip.methods.dense import DenseEncoder
from clearclip.models import position

SQUARE, OBLONG = (32, 32), (24, 40)  # 4 × 4 and 3 × 5 patches of 8 pixels


def config(layers):
    """A CLIP of `layers` blocks, small enough for loops."""
    return {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": layers, "width": 64, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    }


def noisy(backbone):
    """Noise on biases and norms, and weights under which neither tokens nor attention are uniform."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in backbone.model.named_parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        elif parameter.ndim == 4 or (parameter.ndim == 2 and "embed" not in name):
            parameter.mul_(1.5 * parameter[0].numel() ** -0.5 / parameter.std())
    return backbone


def pictures(size, batch=2):
    """Different noise in every image."""
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def close(a, b, tolerance=2e-5):
    return a.shape == b.shape and (a - b).abs().max() <= tolerance * b.abs().max()


def texts(model, count=5):
    """Embeddings of some names, (Q, E)."""
    width = model.project(torch.zeros(1, 1, model.width)).shape[-1]
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(4)), dim=1)


def dense(model, images, *which, proxy=None, names=None):
    """The features of one recipe, or of several by name."""
    asked = texts(model) if names is None else names
    features = DenseEncoder(model, which, proxy).encode(images, texts=asked).features
    return features if len(which) > 1 else next(iter(features.values()))


@dataclass
class Head:
    """What one head of one image sees, (L, C), with y = LN1(x) (L, D), before the heads are parted."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    y: torch.Tensor
    grid: tuple
    middle: tuple = ()  # q and k of the middle blocks, of this head
    features: torch.Tensor | None = None  # DINO's patches (h'w', D') …
    proxy_grid: tuple | None = None  # … and their grid

    def softmax(self, a, b):
        return (a @ b.T / a.shape[1] ** 0.5).softmax(1)


def split(block, x):
    """y and, for every head, q, k and v, straight from the weights of open_clip's block."""
    y = block.ln_1(x)
    D = y.shape[1]
    rows = torch.cat([y, y, y], 1).split(D, 1)
    q, k, v = (
        r @ w.T + b
        for r, w, b in zip(rows, block.attn.in_proj_weight.split(D), block.attn.in_proj_bias.split(D), strict=True)
    )
    C = D // block.attn.num_heads
    heads = [tuple(t[:, h * C : (h + 1) * C] for t in (q, k, v)) for h in range(block.attn.num_heads)]
    return y, heads


def block_inputs(visual, image):
    """The grid and the inputs (L, D) of all blocks of open_clip's tower, for one image of float64."""
    patches = visual.conv1(image[None])[0]
    grid = tuple(patches.shape[1:])
    tokens = torch.cat([visual.class_embedding[None], patches.flatten(1).T])
    positions = position.interpolate(visual.positional_embedding.float(), grid).double()
    inputs = [visual.ln_pre(tokens + positions)]
    for block in visual.transformer.resblocks[:-1]:
        inputs.append(block(inputs[-1][None])[0])
    return grid, inputs


def visual_of(model):
    """The image tower of open_clip in float64."""
    return copy.deepcopy(model.model.visual).double()


def in_text_space(visual, x):
    """Tokens before the final norm (N, D) as unit features (N, E)."""
    features = visual.ln_post(x) @ visual.proj
    return features / features.norm(dim=1, keepdim=True)


def projected(block, values):
    """The heads' A·v, a list of (L, C), side by side through the output projection, (L, D)."""
    return torch.cat(values, 1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias


def refined(scores, image, dilations=(8, 16), steps=10):
    """Pixel-adaptive refinement of one image (3, H, W) and its scores (Q, H, W), pixel by pixel."""
    scores, image = scores.double(), image.double()
    H, W = image.shape[-2:]
    around = list(itertools.product((-1, 0, 1), repeat=2))
    around.remove((0, 0))
    places, weights = [], []
    for row, column in itertools.product(range(H), range(W)):
        others = [
            (min(max(row + y * d, 0), H - 1), min(max(column + x * d, 0), W - 1)) for d in dilations for y, x in around
        ]
        center, colors = image[:, row, column], torch.stack([image[:, y, x] for y, x in others], 1)  # (3,), (3, n)
        deviation = torch.cat([colors, center[:, None].expand(-1, len(dilations))], 1).std(1, keepdim=True)
        weights.append((-((center[:, None] - colors).abs() / (1e-8 + 0.1 * deviation)).mean(0)).softmax(0))
        places.append([y * W + x for y, x in others])
    for _ in range(steps):
        values = scores.flatten(1)
        means = [values[:, at] @ weight for at, weight in zip(places, weights, strict=True)]
        scores = torch.stack(means, 1).unflatten(1, (H, W))
    return scores
