"""What is measured: pure functions on feature maps (…, tokens, channels), and the table that names them.

Every function reduces the last two axes, works in float32 (or wider, if the map is), and never gives NaN for finite
input whose squares are finite (entries up to 1e18 in float32). NaN and +∞ give a non-finite result; −∞ counts as what
it is for a softmax and a maximum, nothing, and gives a non-finite result elsewhere. `analysis.collect` refuses any map
that is not finite, with image, layer and feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.probes.summaries import (
    Starts,
    Summary,
    along_tokens,
    as_it_is,
    each_choice,
    means_of_choices,
    per_token,
    without_starts,
)

NORMALIZATIONS = ("minmax", "max", "none")
OUTLIER_FACTOR = 3.0  # a token is an outlier if its norm is over this many times the median norm of its map


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


# the paper's four ----------------------------------------------------------------------------------------------------


def normalized_entropy(x: Tensor) -> Tensor:
    """Entropy of the softmax over all entries of a map, over log(tokens · channels), in [0, 1] (paper eq. 5, Fig. 4a).

    A constant map gives 1, one dominating entry gives 0. Unlike −Σ p·log p it has no NaN where p underflows.

    Args: x (…, tokens, channels). Returns: (…).

    >>> normalized_entropy(torch.zeros(196, 768))
    tensor(1.)
    """
    return entropy_of_tokens(token_softmax(x), x.shape[-1])


def token_softmax(x: Tensor) -> Tensor:
    """What the entropy needs of each token, so that any choice of tokens can be made later.

    Args: x (…, tokens, channels). Returns (…, tokens, 3): the maximum m, log Σ exp(x − m), and Σ p·(x − m) with p the
    softmax over the token's channels.

    >>> token_softmax(torch.zeros(196, 768)).shape
    torch.Size([196, 3])
    """
    x = _wide(x)
    highest = x.amax(-1, keepdim=True)  # (…, T, 1)
    shifted = (x - highest).clamp_min_(torch.finfo(x.dtype).min)  # a spread beyond the type's range stays finite
    p = shifted.exp()  # softmax would look for the maximum once more, and divide every entry
    total = p.sum(-1)
    energy = p.mul_(shifted).sum(-1) / total
    return torch.stack([highest.squeeze(-1), total.log(), energy], -1)


def entropy_of_tokens(tokens: Tensor, channels: int) -> Tensor:
    """Join (…, T, 3) of `token_softmax`: H = log Σ − Σ p·x over all entries, both relative to the largest one."""
    highest, log_sum, energy = tokens.unbind(-1)  # each (…, T)
    size = highest.shape[-1] * channels
    if size == 1:
        return 1 + 0 * energy[..., 0]  # one entry is a constant map
    below = (highest - highest.amax(-1, keepdim=True)).clamp_min_(torch.finfo(highest.dtype).min)  # ≤ 0
    share = (below + log_sum).clamp_min_(torch.finfo(highest.dtype).min)
    total = share.logsumexp(-1)
    p = (share - total.unsqueeze(-1)).exp()  # (…, T): each token's part of the softmax
    # p = 0 takes a token out, however far below it lies
    mean = torch.where(p > 0, p * (below + energy), 0.0).sum(-1)
    return ((total - mean) / math.log(size)).clamp(0, 1)


def maximum(x: Tensor) -> Tensor:
    """The largest entry of a map, in the model's own units (paper Fig. 4b).

    Args: x (…, tokens, channels). Returns: (…).

    >>> maximum(torch.arange(6.).reshape(2, 3))
    tensor(5.)
    """
    return _wide(x).amax((-2, -1))


def frobenius_norm(x: Tensor) -> Tensor:
    """The Frobenius norm of a map, √Σ x² (paper Fig. 2).

    Args: x (…, tokens, channels). Returns: (…).

    >>> frobenius_norm(torch.ones(4, 9))
    tensor(6.)
    """
    return torch.linalg.vector_norm(token_norms(x), dim=-1)


def channel_means(x: Tensor, normalize: str = "minmax", sort: bool = True) -> Tensor:
    """Mean over tokens of each channel, normalised within the map and sorted ascending (paper Fig. 4c).

    The paper does not name its normalisation. `minmax` maps the means to [0, 1], `max` divides by the largest absolute
    mean, `none` keeps the model's units. Equal means give 0 with `minmax`.

    Args: x (…, tokens, channels). Returns: (…, channels). Raises `ValueError` for another normalisation.

    >>> channel_means(torch.tensor([[1., 5., 3.], [1., 9., 3.]]))
    tensor([0.0000, 0.3333, 1.0000])
    """
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize={normalize!r}: choose one of {', '.join(NORMALIZATIONS)}")
    return _normalized(_wide(x).mean(-2), normalize, sort)


def _normalized(means: Tensor, normalize: str, sort: bool) -> Tensor:
    if normalize == "minmax":
        low, high = means.aminmax(dim=-1, keepdim=True)
        means = (means - low) / (high - low).clamp_min(torch.finfo(means.dtype).tiny)
    elif normalize == "max":
        means = means / means.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(means.dtype).tiny)
    return _sorted(means) if sort else means


def _sorted(x: Tensor) -> Tensor:
    """The values of the last axis ascending; on the CPU by NumPy, which is fifteen times as fast as torch."""
    if x.device.type != "cpu" or x.requires_grad:
        return x.sort(-1).values
    return torch.from_numpy(np.sort(x.numpy(), -1))


# beyond the paper: tokens and directions ------------------------------------------------------------------------------


def token_norms(x: Tensor) -> Tensor:
    """Euclidean norm of every token, (…, tokens, channels) → (…, tokens).

    >>> token_norms(torch.ones(2, 9))
    tensor([3., 3.])
    """
    return torch.linalg.vector_norm(_wide(x), dim=-1)


def outlier_tokens(x: Tensor, factor: float = OUTLIER_FACTOR) -> Tensor:
    """Which tokens have a norm over `factor` times the median norm of their map (the "registers" phenomenon).

    Args: x (…, tokens, channels). Returns: (…, tokens) of 0 and 1.

    >>> outlier_tokens(torch.tensor([[1.], [1.], [1.], [9.]]))
    tensor([0., 0., 0., 1.])
    """
    return _outliers(token_norms(x), factor)


def _outliers(norms: Tensor, factor: float) -> Tensor:
    outliers = (norms > factor * norms.median(-1, keepdim=True).values).to(norms.dtype)
    return outliers.masked_fill(~norms.isfinite(), torch.nan)


def outlier_share(x: Tensor, factor: float = OUTLIER_FACTOR) -> Tensor:
    """Share of the tokens that are outliers, in [0, 1]; see `outlier_tokens`. (…, tokens, channels) → (…).

    >>> outlier_share(torch.tensor([[1.], [1.], [1.], [9.]]))
    tensor(0.2500)
    """
    return outlier_tokens(x, factor).mean(-1)


def norm_ratio(x: Tensor) -> Tensor:
    """The largest token norm over the median one (1 for a map of zeros). (…, tokens, channels) → (…).

    >>> norm_ratio(torch.tensor([[1.], [1.], [1.], [9.]]))
    tensor(9.)
    """
    return _ratio(token_norms(x))


def _ratio(norms: Tensor) -> Tensor:
    highest, median = norms.amax(-1), norms.median(-1).values
    return torch.where(highest != 0, highest / median.clamp_min(torch.finfo(norms.dtype).tiny), 1.0)


def channel_dominance(x: Tensor, k: int = 5) -> Tensor:
    """Share of the total absolute mass that lies in the k strongest channels of the map, in [0, 1].

    k/channels for a map without preference (and for zeros), 1 if k channels carry everything.

    Args: x (…, tokens, channels). Returns: (…).

    >>> channel_dominance(torch.tensor([[0., 8., 1., 1.]]), k=1)
    tensor(0.8000)
    """
    return _dominance(_wide(x).abs().mean(-2), k)


def _dominance(mass: Tensor, k: int = 5) -> Tensor:
    """From the mean absolute value of each channel, (…, channels) → (…)."""
    k = min(k, mass.shape[-1])
    total = mass.sum(-1)
    share = mass.topk(k, dim=-1).values.sum(-1) / total.clamp_min(torch.finfo(mass.dtype).tiny)
    return torch.where(total != 0, share, k / mass.shape[-1])


def _means_of_magnitudes(x: Tensor, starts: Starts) -> Tensor:
    return means_of_choices(x.abs(), starts)


def effective_rank(x: Tensor) -> Tensor:
    """exp(entropy of the singular values over their sum): how many directions the tokens span (Roy & Vetterli 2007).

    1 if all tokens point the same way (or the map is zero), min(tokens, channels) if no direction is preferred.

    Args: x (…, tokens, channels). Returns: (…).

    >>> torch.round(effective_rank(torch.eye(7)))
    tensor(7.)
    """
    return _effective_ranks(x, (0,))[..., 0]


def _effective_ranks(x: Tensor, starts: Starts) -> Tensor:
    """The same for the tokens from each start on, (…, tokens, channels) → (…, starts); products of tokens serve all of them."""
    x = _wide(x)
    scale = x.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    small = (x / scale).double() if x.device.type != "mps" else x / scale  # mps knows no float64
    finite = small.isfinite().all(-1).all(-1)
    small = small.masked_fill(~finite[..., None, None], 0.0)  # LAPACK refuses the whole batch for one NaN
    if x.shape[-2] <= x.shape[-1]:
        products = small @ small.mT  # of all pairs of tokens
        grams = [products[..., start:, start:] for start in starts]
    else:
        grams = [small[..., start:, :].mT @ small[..., start:, :] for start in starts]
    return torch.stack([_rank(gram) for gram in grams], -1).to(x.dtype).masked_fill(~finite[..., None], torch.nan)


def _rank(gram: Tensor) -> Tensor:
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()  # (…, min(T, D))
    p = singular / singular.sum(-1, keepdim=True).clamp_min(torch.finfo(singular.dtype).tiny)
    return torch.special.entr(p).sum(-1).exp()


def mean_cosine(x: Tensor) -> Tensor:
    """Mean cosine between all pairs of different tokens, in [−1, 1]: 1 if all point the same way.

    The paper argues that the residual's tokens share one direction; this measures it. A zero token has cosine 0 with
    every other; a single token gives 1.

    Args: x (…, tokens, channels). Returns: (…).

    >>> mean_cosine(torch.tensor([[1., 0.], [2., 0.], [0., 1.]]))
    tensor(0.3333)
    """
    return _mean_cosines(x, (0,))[..., 0]


def _mean_cosines(x: Tensor, starts: Starts) -> Tensor:
    """The same for the tokens from each start on, (…, tokens, channels) → (…, starts)."""
    x = _wide(x)
    x = x / x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)  # squares neither overflow nor vanish
    unit = F.normalize(x, dim=-1)
    own = unit.square().sum(-1)  # (…, T)
    return torch.stack([_mean_of_pairs(unit[..., start:, :], own[..., start:]) for start in starts], -1)


def _mean_of_pairs(unit: Tensor, own: Tensor) -> Tensor:
    """Mean u_i·u_j of different tokens: Σ_{i≠j} u_i·u_j = |Σ u_i|² − Σ |u_i|², without a tokens × tokens matrix."""
    tokens = unit.shape[-2]
    if tokens == 1:
        return 1 + 0 * own.sum(-1)
    return (unit.sum(-2).square().sum(-1) - own.sum(-1)) / (tokens * (tokens - 1))


# the table -----------------------------------------------------------------------------------------------------------


NORMS = without_starts(token_norms)  # the summary that every run makes, because it shows what is not finite


@dataclass(frozen=True)
class Statistic:
    """A named statistic: its function (B, tokens, channels) → (B, *dims), what it is, and its unit.

    `dims` are the axes it keeps besides the image ("channel" or "token"); such statistics are averaged over the images
    while they stream, the others are kept for every image. Write your own in one line and pass it to `collect`:

    >>> spread = Statistic(lambda x: x.std((-2, -1)), "standard deviation of all entries", "model units")
    >>> spread.function(torch.zeros(2, 196, 768)).shape
    torch.Size([2])
    """

    function: Callable[[Tensor], Tensor]
    long_name: str
    units: str
    dims: tuple[str, ...] = ()
    shared: Summary | None = None

    @property
    def summary(self) -> Summary:
        """How a run computes it: from a shared summary of the map, or with its function for each choice of tokens."""
        return self.shared or each_choice(self.function, self.dims)


_ABOUT_CHANNELS = {
    "minmax": ("channel mean, min–max normalised per image", "1"),
    "max": ("channel mean over the largest absolute one, per image", "1"),
    "none": ("channel mean", "model units"),
}


def channel_statistics(normalize: str = "minmax") -> dict[str, Statistic]:
    """`channel_mean_sorted` and `channel_mean` of Fig. 4c, with a chosen normalisation.

    >>> list(channel_statistics("max"))
    ['channel_mean_sorted', 'channel_mean']
    """
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize={normalize!r}: choose one of {', '.join(NORMALIZATIONS)}")
    about, units = _ABOUT_CHANNELS[normalize]
    return {
        "channel_mean_sorted": Statistic(
            partial(channel_means, normalize=normalize),
            f"{about}, sorted",
            units,
            dims=("channel",),
            shared=Summary(means_of_choices, lambda means, starts, channels: _normalized(means, normalize, sort=True)),
        ),
        "channel_mean": Statistic(
            partial(channel_means, normalize="none", sort=False),
            "channel mean",
            "model units",
            dims=("channel",),
            shared=Summary(means_of_choices, lambda means, starts, channels: means),
        ),
    }


STATISTICS: dict[str, Statistic] = {
    "entropy": Statistic(
        normalized_entropy, "normalised entropy", "1", shared=per_token(token_softmax, entropy_of_tokens, dim=-2)
    ),
    "maximum": Statistic(  # the entropy has found each token's maximum already
        maximum,
        "largest entry",
        "model units",
        shared=per_token(token_softmax, lambda tokens, _: tokens[..., 0].amax(-1), dim=-2),
    ),
    "frobenius_norm": Statistic(
        frobenius_norm,
        "Frobenius norm",
        "model units",
        shared=per_token(token_norms, lambda tokens, _: torch.linalg.vector_norm(tokens, dim=-1)),
    ),
    **channel_statistics(),
    "outlier_share": Statistic(
        outlier_share,
        f"share of tokens with a norm over {OUTLIER_FACTOR:g} times the median",
        "1",
        shared=per_token(token_norms, lambda tokens, _: _outliers(tokens, OUTLIER_FACTOR).mean(-1)),
    ),
    "norm_ratio": Statistic(
        norm_ratio,
        "largest token norm over the median",
        "1",
        shared=per_token(token_norms, lambda tokens, _: _ratio(tokens)),
    ),
    "channel_dominance": Statistic(
        channel_dominance,
        "share of the absolute mass in the 5 strongest channels",
        "1",
        shared=Summary(_means_of_magnitudes, lambda mass, starts, channels: _dominance(mass)),
    ),
    "effective_rank": Statistic(
        effective_rank, "effective rank of the tokens", "1", shared=Summary(_effective_ranks, as_it_is)
    ),
    "mean_cosine": Statistic(mean_cosine, "mean cosine between tokens", "1", shared=Summary(_mean_cosines, as_it_is)),
    "token_norm": Statistic(
        token_norms,
        "token norm",
        "model units",
        dims=("token",),
        shared=along_tokens(token_norms, lambda norms: norms),
    ),
    "outlier_rate": Statistic(
        outlier_tokens,
        f"share of images in which the token's norm is over {OUTLIER_FACTOR:g} times the median",
        "1",
        dims=("token",),
        shared=along_tokens(token_norms, partial(_outliers, factor=OUTLIER_FACTOR)),
    ),
}
FIGURE_4 = ("entropy", "maximum", "frobenius_norm", "channel_mean_sorted", "channel_mean")
TOKENS = (
    "outlier_share",
    "norm_ratio",
    "channel_dominance",
    "effective_rank",
    "mean_cosine",
    "token_norm",
    "outlier_rate",
)
