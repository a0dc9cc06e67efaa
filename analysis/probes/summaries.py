"""From maps to statistics in two steps: a small summary while the map is there, the values after the forward pass.

Statistics that name the same summary share it, and a summary serves all choices of tokens. So the map is read once for
entropy and maximum, once for all norms, and once for the channel means: about half the time of the plain functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

Starts = tuple[int, ...]  # for each choice of tokens, the first token that belongs to it (all after it do)


@dataclass(frozen=True)
class Summary:
    """A statistic in two steps, for several choices of tokens and several maps.

    `summarise` runs when a map is there: (B, T, D), starts → (B, …), small. `finish` runs once after the pass, on the
    summaries of all maps: (B, maps, …), starts, D → (B, maps, choices, …).
    """

    summarise: Callable[[Tensor, Starts], Tensor]
    finish: Callable[[Tensor, Starts, int], Tensor]


def each_choice(function: Callable[[Tensor], Tensor], dims: tuple[str, ...] = ()) -> Summary:
    """The plain way: a statistic's function, once for each choice of tokens.

    >>> each_choice(lambda x: x.amax((-2, -1))).summarise(torch.arange(6.0).reshape(1, 3, 2), (1, 0))
    tensor([[5., 5.]])
    """

    def summarise(x: Tensor, starts: Starts) -> Tensor:
        values = [function(x[:, start:]) for start in starts]
        if dims == ("token",):
            values = list(map(padded, values, starts))
        return torch.stack(values, 1)  # (B, choices, …)

    return Summary(summarise, as_it_is)


def as_it_is(values: Tensor, starts: Starts, channels: int) -> Tensor:
    """What a map was summarised to is the value already."""
    return values


def per_token(summarise: Callable[[Tensor], Tensor], join: Callable[[Tensor, int], Tensor], dim: int = -1) -> Summary:
    """Summarise every token once, then join those of each choice; `dim` is where the summary has its tokens."""

    def finish(summary: Tensor, starts: Starts, channels: int) -> Tensor:
        tokens = summary.shape[dim]
        return torch.stack([join(summary.narrow(dim, start, tokens - start), channels) for start in starts], 2)

    return Summary(without_starts(summarise), finish)


def along_tokens(summarise: Callable[[Tensor], Tensor], values: Callable[[Tensor], Tensor]) -> Summary:
    """Summarise every token once, then make the values of the tokens of each choice; in place of the others stands NaN."""

    def finish(summary: Tensor, starts: Starts, channels: int) -> Tensor:
        return torch.stack([padded(values(summary[..., start:]), start) for start in starts], 2)

    return Summary(without_starts(summarise), finish)


def padded(values: Tensor, start: int) -> Tensor:
    """Values of the tokens of a choice, with NaN for those before it, which have nothing to say there."""
    return F.pad(values, (start, 0), value=torch.nan)


@cache  # one object per function, so that statistics which share a summary are seen to
def without_starts(summarise: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Starts], Tensor]:
    """A summary that is the same for all choices of tokens."""
    return lambda x, starts: summarise(x)


def means_of_choices(x: Tensor, starts: Starts) -> Tensor:
    """Mean over the tokens of each choice, (B, T, D) → (B, choices, D), in one pass over the map."""
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    shares = _shares if torch.compiler.is_compiling() else _kept_shares  # a graph has no use for what is kept
    return shares(x.shape[1], starts, x.device, x.dtype) @ x


def _shares(tokens: int, starts: Starts, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What each token counts in the mean of each choice, (choices, T)."""
    numbers = torch.arange(tokens, device=device)
    return torch.stack([(numbers >= start).to(dtype) / (tokens - start) for start in starts])


_kept_shares = cache(torch.inference_mode(False)(_shares))  # a pass asks for it at every map
