"""Who listens to whom in the last block: every affinity as a way to get A·v from a block's q, k and v.

A is never formed where PyTorch's fused attention can do without it. A name stands for one product ("qk", "qq", "kk",
"vv", "identity", …); names are added with weights: "qq + kk", "0.5*qk + 0.5*qq".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError, closest

MIDDLE = range(6, 10)  # the blocks of a 12-block model whose attention ResCLIP borrows
SIGMA = 5.0  # NACLIP's Gaussian, in patches
PROXY_BETA, PROXY_GAMMA = 1.2, 3.0  # ProxyCLIP's shift and sharpness


@dataclass
class Attended:
    """What an affinity may look at in one block: q, k, v (B, heads, L, C), y = LN1(x) (B, L, D), the grid, and more.

    `middle` holds q and k of middle blocks (ResCLIP); `proxy` patch features of a second model (B, h'w', D') and their
    grid (ProxyCLIP).
    """

    q: Tensor
    k: Tensor
    v: Tensor
    y: Tensor
    grid: tuple[int, int]
    prefix: int
    middle: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    proxy: tuple[Tensor, tuple[int, int]] | None = None

    def softmax(self, a: Tensor, b: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Tensor:
        """softmax(s · a·bᵀ + bias)·v, with s = C^-½ unless given, (B, heads, L, C)."""
        return F.scaled_dot_product_attention(a, b, self.v, attn_mask=bias, scale=scale)


def _gem(seen: Attended, u: Tensor) -> Tensor:
    """GEM: u normalised, refined once over itself, and sharpened by the mean length of y, per image."""
    tau = seen.y.float().norm(dim=-1).mean(-1)[:, None, None, None] * u.shape[-1] ** -0.5  # (B, 1, 1, 1)
    with torch.autocast(u.device.type, enabled=False):  # or autocast would undo the float()
        u = F.normalize(u.float(), dim=-1)
        u = F.normalize(F.scaled_dot_product_attention(tau * u, u, u, scale=1.0), dim=-1)
        return F.scaled_dot_product_attention(tau * u, u, seen.v.float(), scale=1.0).to(seen.v.dtype)


def gaussian(grid: tuple[int, int], prefix: int = 0, sigma: float = SIGMA) -> Tensor:
    """exp(−‖p_i − p_j‖² / 2σ²) between the patches of a grid, 0 to and from prefix tokens, (L, L).

    >>> gaussian((2, 2), prefix=1).shape
    torch.Size([5, 5])
    """
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in grid), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], 1)  # (hw, 2)
    distance = (places[:, None] - places[None]).square().sum(-1)
    return F.pad(torch.exp(-distance / (2 * sigma**2)), (prefix, 0, prefix, 0))


def _kk_gaussian(seen: Attended) -> Tensor:
    bias = gaussian(seen.grid, seen.prefix).to(seen.v)
    return seen.softmax(seen.k, seen.k, bias=bias)


def _qk_middle(seen: Attended) -> Tensor:
    return torch.stack([seen.softmax(q, k) for q, k in seen.middle]).mean(0)


def _proxy(seen: Attended) -> Tensor:
    """softmax(mask(γ·(S − β·mean S)))·v on the second model's grid, S the cosine of its patch features; no prefix."""
    if seen.proxy is None:
        raise UserError(
            'affinity "proxy" needs a second model: DenseEncoder(model, recipes, proxy=load("dino_vitb8")).'
        )
    features, grid = seen.proxy
    unit = F.normalize(features.float(), dim=-1)
    with torch.autocast(unit.device.type, enabled=False):  # or autocast would undo the float()
        cosine = unit @ unit.mT  # (B, h'w', h'w')
    scores = PROXY_GAMMA * (cosine - PROXY_BETA * cosine.mean((1, 2), keepdim=True))
    # a patch always listens to itself, so that a picture of one texture leaves no empty row
    itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    weights = scores.masked_fill((scores < 0) & ~itself, -math.inf).softmax(-1).to(seen.v.dtype)
    v = seen.v[:, :, seen.prefix :]  # (B, heads, hw, C)
    B, heads, _, C = v.shape
    image = v.transpose(2, 3).reshape(B, heads * C, *seen.grid)
    image = F.interpolate(image.float(), size=grid, mode="bilinear", align_corners=False).to(v.dtype)
    return weights[:, None] @ image.reshape(B, heads, C, -1).transpose(2, 3)  # (B, heads, h'w', C)


PRODUCTS: dict[str, Callable[[Attended], Tensor]] = {
    "qk": lambda seen: seen.softmax(seen.q, seen.k),
    "qq": lambda seen: seen.softmax(seen.q, seen.q),
    "kk": lambda seen: seen.softmax(seen.k, seen.k),
    "vv": lambda seen: seen.softmax(seen.v, seen.v),
    "identity": lambda seen: seen.v,
    "kk_gaussian": _kk_gaussian,
    "gem_q": lambda seen: _gem(seen, seen.q),
    "gem_k": lambda seen: _gem(seen, seen.k),
    "gem_v": lambda seen: _gem(seen, seen.v),
    "qk_middle": _qk_middle,
    "proxy": _proxy,
}

Affinity = tuple[tuple[str, float], ...]  # products and their weights


def parse(text: str) -> Affinity:
    """The products and weights of an affinity written as a sum. Raises `UserError` for an unknown product.

    >>> parse("qq + kk"), parse("0.25*qk + 0.75*identity")
    ((('qq', 1.0), ('kk', 1.0)), (('qk', 0.25), ('identity', 0.75)))
    """
    terms = []
    for term in text.split("+"):
        weight, star, name = term.rpartition("*")
        name = name.strip()
        if name not in PRODUCTS:
            raise UserError(f"affinity {text!r}: {name!r} is not a product. Closest: {closest(name, list(PRODUCTS))}.")
        try:
            terms.append((name, float(weight) if star else 1.0))
        except ValueError as error:
            raise UserError(f"affinity {text!r}: {weight.strip()!r} is not a number.") from error
    return tuple(terms)
