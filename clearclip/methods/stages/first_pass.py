"""Which name every patch has, from a first pass through the last block (ResCLIP's SFR)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.methods.affinity import attention_output, parse, parts
from clearclip.methods.pamr import DILATIONS, STEPS, pamr_weights, refine
from clearclip.methods.stages.stage import Before
from clearclip.methods.trunk import Tokens
from clearclip.models.backbone import Backbone

TEMPERATURE = 40.0  # of the softmax over the names
NAMES_AT_ONCE = 64  # whose maps are refined together, or a long list of names would fill the memory


@dataclass(frozen=True, repr=False)
class FirstPass(Before):
    """Labels for `SameLabel`: the most frequent name of a patch's pixels, after pixel-adaptive refinement of the cosines.

    A pixel whose softmax(40·cosine) is below a cut gets the first name. Names are told apart also where they are of one class.

    Args:
        affinity: of the first pass, as in `Recipe`.
        residual: X_res is added.
        ffn: FFN(LN2(·)) of the sum is added.
        cut: the lowest probability that counts.
        steps: of the refinement.
        dilations: of the refinement, in pixels.
    """

    affinity: str = "kk_gaussian"
    residual: bool = False
    ffn: bool = False
    cut: float = 0.5
    steps: int = STEPS
    dilations: tuple[int, ...] = DILATIONS
    needs_texts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if any(product.elsewhere for product in parts(self.affinity)):
            raise UserError(f"{self!r}: its patches lie on another grid than the ones that get labels.")
        if not 0 <= self.cut <= 1 or self.steps < 0 or not self.dilations or min(self.dilations) < 1:
            raise UserError(f"{self!r}: cut is a probability, steps at least 0, and dilations are at least 1 pixel.")

    def layers(self, depth: int) -> list[int]:
        """What its affinity looks at."""
        return [layer for product in parts(self.affinity) for layer in product.layers(depth)]

    def check(self, model: Backbone, guide: Backbone | None) -> None:
        """Refuse what its affinity refuses."""
        for product in parts(self.affinity):
            product.check(model, guide)

    def __call__(self, tokens: Tokens) -> Tokens:
        """The same tokens with labels; raises `UserError` where nobody asks for names."""
        trunk, texts = tokens.trunk, tokens.trunk.texts
        if texts is None:
            raise UserError(
                f"{self!r} labels patches with the names that are asked for: take a Segmenter, or give "
                "DenseEncoder.encode(images, texts=…) their embeddings."
            )
        if tokens is trunk.tokens(tokens.layer):  # no other stage has changed them, so that recipes share the labels
            labels = trunk.once((self, tokens.layer), lambda: self._labels(tokens, texts))
        else:
            labels = self._labels(tokens, texts)
        return replace(tokens, labels=labels)

    def _labels(self, tokens: Tokens, texts: Tensor) -> Tensor:
        """The number of every patch's name, (B, N)."""
        images, (rows, columns) = tokens.trunk.images, tokens.trunk.grid
        pixels = torch.stack([self._pixels(*one) for one in zip(self._cosines(tokens, texts), images, strict=True)])
        patches = pixels.unflatten(2, (columns, -1)).unflatten(1, (rows, -1)).transpose(2, 3).flatten(3).flatten(1, 2)
        counts = torch.zeros(*patches.shape[:2], len(texts), device=patches.device)  # (B, N, Q)
        counts.scatter_add_(2, patches, torch.ones_like(patches, dtype=counts.dtype))
        return counts.argmax(2)  # the first of those that are equally frequent

    def _cosines(self, tokens: Tokens, texts: Tensor) -> Tensor:
        """Cosines of every name and the first pass's features, (B, Q, rows, columns) float32."""
        model, seen = tokens.trunk.model, tokens.seen
        x = attention_output(seen, parse(self.affinity))[:, seen.prefix :]
        if self.residual:
            x = x + tokens.own
        if self.ffn:
            x = x + model.blocks[tokens.layer - 1].ffn(x)
        features = F.normalize(model.project(model.final_norm(x)).float(), dim=-1)  # (B, N, E)
        with torch.autocast(features.device.type, enabled=False):
            return (texts.float() @ features.mT).unflatten(2, seen.grid)

    def _pixels(self, cosines: Tensor, image: Tensor) -> Tensor:
        """The number of every pixel's name, (H, W), with a running maximum and sum over the names."""
        size, weights = tuple(image.shape[-2:]), pamr_weights(image[None], self.dilations)
        labels = torch.zeros(size, dtype=torch.int64, device=image.device)
        best = torch.full(size, -math.inf, device=image.device)
        total = best.clone()
        for first in range(0, len(cosines), NAMES_AT_ONCE):
            names = cosines[None, first : first + NAMES_AT_ONCE]
            maps = F.interpolate(names, size=size, mode="bilinear", align_corners=False)
            logits = TEMPERATURE * refine(maps, weights, self.steps)[0]
            highest = logits.max(0)
            labels = torch.where(highest.values > best, first + highest.indices, labels)
            best = torch.maximum(best, highest.values)
            total = torch.logaddexp(total, logits.logsumexp(0))
        return labels.masked_fill((best - total).exp() < self.cut, 0)
