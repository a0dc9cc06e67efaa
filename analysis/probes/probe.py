"""Probe: attach to a model, let it run as it is, read X_res, X_attn and X_sum, detach without a trace."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import torch
import torch._dynamo
from torch import Tensor, nn

from clearclip.errors import UserError, refuse_repeated
from clearclip.models.block import FEATURES, OUTPUT
from clearclip.models.wrap import ModelLike, as_backbone

T = TypeVar("T")


class SiteSilentError(RuntimeError):
    """A requested site did not report during a forward pass, so its numbers would be missing or stale."""


def refuse_features(features: Sequence[str]) -> None:
    """Raise `UserError` for features that do not exist, or are named twice, or none."""
    unknown = [feature for feature in features if feature not in FEATURES]
    if unknown or not features:
        raise UserError(f"features {unknown}: choose from {', '.join(FEATURES)}.")
    refuse_repeated("features", features)


class Probe(Generic[T]):
    """Reads feature maps of chosen layers while the model runs; the model is left as it was, also after an exception.

    Each map (B, tokens, channels), CLS and registers included, is handed to `reduce` the moment it exists, and what
    that returns is kept; without `reduce` the maps themselves are kept if `keep=True`. With `outputs` what the blocks hand
    on is read as well, as X_out. Works in eager mode, autocast, inference mode and with `torch.compile` (what was compiled
    is compiled anew, and each site then ends a graph).
    The sites are those of paper eq. 2, see `clearclip.models.block`.

    Raises `UserError` for layers or features that do not exist, `SiteSilentError` when a requested site stays silent.

    >>> import clearclip
    >>> model = clearclip.load("dino_vits16", random=True)
    >>> with torch.inference_mode(), Probe(model, layers=[1, 12], keep=True) as probe:
    ...     model(torch.zeros(2, 3, 224, 224))
    >>> x_res, x_attn, x_sum = (probe[12, feature] for feature in ("X_res", "X_attn", "X_sum"))
    >>> torch.equal(x_res + x_attn, x_sum), tuple(x_sum.shape)
    (True, (2, 197, 384))
    """

    def __init__(
        self,
        model: ModelLike,
        layers: Sequence[int] | None = None,
        features: Sequence[str] = FEATURES,
        reduce: Callable[[Tensor], T] | None = None,
        keep: bool = False,
        outputs: bool = False,
    ) -> None:
        if (reduce is None) != keep:
            raise UserError("a probe needs either reduce=function or keep=True, so that no map is held by accident.")
        refuse_features(features)
        self.model = as_backbone(model)
        read = [*features, OUTPUT] if outputs else features
        self.sites = [(layer, feature) for layer in self.model.layers(layers) for feature in read]
        self._reduce = reduce
        self._results: dict[tuple[int, str], T] = {}
        self._owed = True  # whether leaving the probe without results is an error
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        # torch.compile shares code between equal blocks; without these guards a block with hooks gets that of one without
        self._guards = torch._dynamo.config.patch(skip_nnmodule_hook_guards=False)

    def __repr__(self) -> str:
        layers, features = (list(dict.fromkeys(part)) for part in zip(*self.sites, strict=True))
        state = "attached" if self._handles else f"{len(self._results)} maps read"
        return f"Probe({self.model.name}: {', '.join(features)} of layers {', '.join(map(str, layers))}; {state})"

    def __enter__(self) -> "Probe[T]":
        if self._handles:
            raise RuntimeError("this probe is attached already")
        self._results, self._owed = {}, True
        torch.compiler.reset()  # a graph compiled without hooks would never call them
        self._guards.__enter__()
        try:
            for layer, feature in self.sites:
                module, end = self.model.blocks[layer - 1].site(feature)
                self._handles.append(self._attach(module, end, (layer, feature)))
        except BaseException:
            self._detach()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._detach()
        if kind is None and self._owed:
            self.results()

    def __getitem__(self, site: tuple[int, str]) -> T:
        """What the last forward pass gave at (layer, feature)."""
        if site not in self.sites:
            raise KeyError(f"{site} was not probed; probed were {self.sites}")
        if site not in self._results:
            raise SiteSilentError(self._silence([site]))
        return self._results[site]

    def results(self) -> dict[tuple[int, str], T]:
        """What every site gave since the last `clear`; raises `SiteSilentError` naming the sites that gave nothing."""
        silent = [site for site in self.sites if site not in self._results]
        if silent:
            raise SiteSilentError(self._silence(silent))
        return {site: self._results[site] for site in self.sites}

    def run(self, images: Tensor) -> dict[tuple[int, str], T]:
        """One forward pass over normalised images (B, 3, H, W), and what every site gave in it."""
        self.clear()
        self.model(images)
        return self.results()

    def clear(self) -> None:
        """Forget what was read, so that a stale value cannot be taken for a new one; nothing is owed at the exit."""
        self._results, self._owed = {}, False

    def _attach(self, module: nn.Module, end: str, site: tuple[int, str]) -> torch.utils.hooks.RemovableHandle:
        @torch.compiler.disable  # a reducer runs as it is written and never becomes part of the model's graph
        def report(x: Tensor) -> None:
            x = x.detach()
            with torch.autocast(x.device.type, enabled=False):  # statistics are float32, whatever the model runs in
                self._results[site] = cast(T, x) if self._reduce is None else self._reduce(x)

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            report(args[0] if args else next(iter(kwargs.values())))

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            report(output[0] if isinstance(output, tuple) else output)

        if end == "input":
            return module.register_forward_pre_hook(before, with_kwargs=True)
        return module.register_forward_hook(after)

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._guards.__exit__(None, None, None)
        torch.compiler.reset()  # and one compiled with them would go on calling

    def _silence(self, silent: list[tuple[int, str]]) -> str:
        named = ", ".join(f"{feature} of layer {layer}" for layer, feature in silent[:6])
        return (
            f"{self.model.name}: no map arrived from {named}{', …' if len(silent) > 6 else ''} ({len(silent)} of "
            f"{len(self.sites)} sites). The forward pass did not run inside the probe, or did not call these modules."
        )
