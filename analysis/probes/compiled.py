"""Compiled passes: a block's forward with what is measured of its maps as ordinary operations in it, in one graph.

Hooks run Python at every site, which ends a compiled graph 36 times in a model of 12 blocks and leaves each reduction a dozen
small operations. Here `torch.compile` sees a block, as the library's own modules run through our view on it, and the reductions
of its three maps in one trace without a break, and fuses them. All blocks of a model share the graph, so that deep ones
compile as fast as flat ones. It adds in another order, so results differ in their last digits from those of a `Probe`: by at
most `TOLERANCE` of the largest value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch.nn.functional import scaled_dot_product_attention

from analysis.probes.probe import refuse_features
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES, Block

TOLERANCE = (
    1e-4  # of the largest value of a statistic, in float32; outliers are counted, so one at the threshold counts whole
)

Site = tuple[int, str]
Reduce = Callable[[Tensor], tuple[Tensor, ...]]


def run_block(
    block: Block, x: Tensor, rope: Tensor | None, features: tuple[str, ...], reduce: Reduce
) -> tuple[Tensor, dict[str, tuple[Tensor, ...]]]:
    """X_res (B, L, D) → what the block hands on (B, L, D), and what is kept of some of its maps."""
    y = block.norm1(x)
    x_attn = block.output(scaled_dot_product_attention(*block.qkv(y, rope)), y)
    x_sum = x + x_attn
    kept = {}
    for feature, map_ in zip(FEATURES, (x, x_attn, x_sum), strict=True):
        if feature in features:
            with torch.autocast(map_.device.type, enabled=False):  # as a probe does
                kept[feature] = reduce(map_)
    return x_sum + block.ffn(x_sum), kept


class CompiledPass:
    """Reads feature maps as a `Probe` does, but in one compiled graph of a block, for which the first batch waits.

    The graph is one of a number of pictures. A smaller batch is filled up, since another graph would take longer to compile.

    Args:
        model: any `Backbone` in which no intervention and no hook acts.
        layers: counted 1 … depth.
        features: which of X_res, X_attn and X_sum.
        reduce: what is kept of a map (B, L, D), each (B, …), made by operations that `torch.compile` can trace.
        batch_size: pictures in one forward pass, at the most.
        backend: of `torch.compile`.

    Raises:
        UserError: something is changed inside the model, or hooks are in its blocks, or a layer or feature does not exist.
    """

    def __init__(
        self,
        model: Backbone,
        layers: Sequence[int],
        features: Sequence[str],
        reduce: Reduce,
        batch_size: int,
        backend: str = "inductor",
    ) -> None:
        refuse_features(features)
        self.layers, self.features = model.layers(layers), tuple(features)
        seen = [module for block in model.blocks[: max(self.layers)] for module in block.module.modules()]
        if model.interventions or any(module._forward_hooks or module._forward_pre_hooks for module in seen):
            raise UserError(
                f"{model.name}: interventions and hooks act between the operations of a block, where one compiled graph lets "
                "nobody in. Measure without compiling."
            )
        self.model, self.batch_size = model, batch_size
        torch.compiler.reset()  # it keeps eight graphs of the same code, and those of other models are measured
        self._run_block = torch.compile(run_block, fullgraph=True, dynamic=False, backend=backend)
        self._reduce = reduce
        self._ropes: dict[torch.Size, dict[int, Tensor | None]] = {}

    def run(self, images: Tensor) -> dict[Site, tuple[Tensor, ...]]:
        """One forward pass over normalised images (B, 3, H, W), and what is kept of each map.

        Raises:
            UserError: the graph cannot be compiled here.
        """
        missing = self.batch_size - len(images)
        filled = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
        ropes, (x, _) = self._ropes_of(filled), self.model.block_inputs(filled, [1])[1]
        kept: dict[Site, tuple[Tensor, ...]] = {}
        with self.model.autocast(), _compiled(self.model):
            for layer in range(1, max(self.layers) + 1):
                block = self.model.blocks[layer - 1]
                if layer not in self.layers:
                    x = block.forward(x, ropes[layer])
                    continue
                x, of_layer = self._run_block(block, x, ropes[layer], self.features, self._reduce)
                for feature, values in of_layer.items():
                    kept[layer, feature] = tuple(value[: len(images)] for value in values)
        return {(layer, feature): kept[layer, feature] for layer in self.layers for feature in self.features}

    def _ropes_of(self, images: Tensor) -> dict[int, Tensor | None]:
        """The rotary positions of each block, which some models learn block by block; looked up once for a size of pictures."""
        size = images.shape[-2:]
        if size not in self._ropes:
            ropes: dict[int, Tensor | None] = {}
            self.model.run_until(
                images[:1], range(1, max(self.layers) + 1), lambda layer, given: ropes.update({layer: given.rope})
            )
            self._ropes[size] = ropes
        return self._ropes[size]


@contextmanager
def _compiled(model: Backbone) -> Iterator[None]:
    try:
        yield
    except (TorchDynamoException, FailOnRecompileLimitHit) as error:
        reason = next(iter(str(error).strip().splitlines()), "no reason is given")
        raise UserError(
            f"{model.name} cannot be compiled here ({type(error).__name__}: {reason}). Measure without compiling, or see "
            "what torch.compile needs, on a CPU a C++ compiler."
        ) from error
