"""Who listens to whom in the last block: every affinity as a way to get A·v from a block's q, k and v.

A is never formed where PyTorch's fused attention can do without it. A name stands for one product ("qk", "qq", "kk",
"vv", "identity", …), a product with parameters is written as it is called ("Similarity(layer=9)"), and products are added
with weights: "qq + kk", "0.5*Similarity(layer=9) + 0.5*kk".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError, closest
from clearclip.methods.products import PARAMETRIC, Middle, Proxy
from clearclip.methods.products.gaussian import gaussian
from clearclip.methods.products.product import Product
from clearclip.methods.trunk import Attended, summed
from clearclip.written import read


def _gem(seen: Attended, u: Tensor) -> Tensor:
    """GEM: u normalised, refined once over itself, and sharpened by the mean length of y, per image."""
    tau = seen.y.float().norm(dim=-1).mean(-1)[:, None, None, None] * u.shape[-1] ** -0.5  # (B, 1, 1, 1)
    with torch.autocast(u.device.type, enabled=False):  # or autocast would undo the float()
        u = F.normalize(u.float(), dim=-1)
        u = F.normalize(F.scaled_dot_product_attention(tau * u, u, u, scale=1.0), dim=-1)
        return F.scaled_dot_product_attention(tau * u, u, seen.v.float(), scale=1.0).to(seen.v.dtype)


def _kk_gaussian(seen: Attended) -> Tensor:
    bias = gaussian(seen.grid, seen.prefix).to(seen.v)
    return seen.softmax(seen.k, seen.k, bias=bias)


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
    "qk_middle": Middle(),  # ResCLIP
    "proxy": Proxy(),  # ProxyCLIP
}

Affinity = tuple[tuple[str, float], ...]  # products and their weights


def product(name: str) -> Callable[[Attended], Tensor]:
    """What a product's name stands for: a function from q, k and v to A·v, (B, heads, L, C).

    Raises `UserError` for an unknown product.

    >>> product("Middle(blocks=(7, 8))")
    Middle(blocks=(7, 8))
    """
    if name in PRODUCTS:
        return PRODUCTS[name]
    if "(" not in name:
        raise UserError(f"{name!r} is not a product. Closest: {closest(name, [*PRODUCTS, *PARAMETRIC])}.")
    return _parametric(name)


@cache
def _parametric(text: str) -> Product:
    parametric: Product = read(text, PARAMETRIC)
    return parametric


def split(text: str) -> list[str]:
    """The terms of an affinity, as text.

    >>> split("0.5*Similarity(layer=9)+kk")
    ['0.5*Similarity(layer=9)', 'kk']
    """
    return [term.strip() for term in re.split(r"\+(?![^(]*\))", text)]  # not within parentheses


def parse(text: str) -> Affinity:
    """The products and weights of an affinity written as a sum. Raises `UserError` for an unknown product.

    >>> parse("qq + kk"), parse("0.25*qk + 0.75*identity")
    ((('qq', 1.0), ('kk', 1.0)), (('qk', 0.25), ('identity', 0.75)))
    """
    terms = []
    for term in split(text):
        weight, star, name = term.rpartition("*")
        name = name.strip()
        try:
            product(name)
        except UserError as error:
            raise UserError(f"affinity {text!r}: {error}") from error
        try:
            terms.append((name, float(weight) if star else 1.0))
        except ValueError as error:
            raise UserError(f"affinity {text!r}: {weight.strip()!r} is not a number.") from error
    return tuple(terms)


def parts(text: str) -> list[Product]:
    """Those products of an affinity that have parameters."""
    return [known for name, _ in parse(text) if isinstance(known := product(name), Product)]


def attention_output(seen: Attended, terms: Affinity, values: Callable[[str], Tensor] | None = None) -> Tensor:
    """Proj(Σ w·A·v): the sum is taken before the projection, so its bias counts once, (B, L, D).

    Args:
        seen: q, k and v.
        terms: products and their weights.
        values: A·v of a product, (B, heads, L, C), where somebody keeps them; otherwise they are computed.
    """
    of = values or (lambda name: product(name)(seen))
    weighted = [of(name) * weight if weight != 1 else of(name) for name, weight in terms]
    tokens = seen.tokens
    return tokens.trunk.model.blocks[tokens.layer - 1].output(summed(weighted), seen.y)
