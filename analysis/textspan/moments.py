"""The measurement behind TextSpan: the first two moments of what every head adds to CLS or to the patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import xarray as xr
from torch import Tensor

from analysis.attribution.readout import Readout
from analysis.probes.heads import head_outputs, head_width
from analysis.probes.images import Picture
from clearclip.entries import digest, list_digest
from clearclip.models.backbone import BlockInput
from clearclip.models.finite import require_finite
from clearclip.models.memory import refuse_too_large
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.records import contents_of
from clearclip.runs.stream import Measurement


class Decoded(NamedTuple):
    """One picture as the model takes it."""

    position: int  # in the list of all pictures
    pixels: Tensor  # (3, H, W)


class Total(NamedTuple):
    """Sums over all tokens so far."""

    tokens: int
    sums: ExactSum  # (layers, heads, C)
    squares: ExactSum  # (layers, heads, C, C)


DIMS = {"sums": ("layer", "head", "channel"), "squares": ("layer", "head", "channel", "other")}


class HeadMoments(Measurement[Decoded, Total]):
    """Moments of A·v / (σ·|f|) for every chosen head: a linear map away from what the head adds to the unit feature.

    σ is the deviation of the token before the final norm, and |f| the length of its feature in the text space, as in
    `analysis.attribution`. What leads from a head's channels to the text space is the same for all tokens, `toward`.

    Args:
        readout: the model, and the axes of its text space as vectors.
        pictures: any.
        layers: counted from 1, ascending.
        heads: counted from 1.
        tokens: "cls" or "patches".
        image_size: side in pixels; None for the weights' own.
        batch_size: pictures in one forward pass.
    """

    def __init__(
        self,
        readout: Readout,
        pictures: Sequence[Picture],
        layers: tuple[int, ...],
        heads: tuple[int, ...],
        tokens: str,
        image_size: int | None,
        batch_size: int,
    ) -> None:
        self.readout, self.model, self.entries = readout, readout.model, pictures
        self.layers, self.heads, self.tokens, self.image_size = layers, heads, tokens, image_size
        self.title, self.indices, self.batch_size = self.model.name, range(len(pictures)), batch_size
        self.model.grid(image_size)  # refuses a size that is not a multiple of the patch before anything runs
        refuse_too_large(self.model, image_size, min(batch_size, len(pictures)))
        self.transform = self.model.transform(image_size)
        self.rows = [head - 1 for head in heads]
        self.asked = slice(1) if tokens == "cls" else slice(self.model.prefix_tokens, None)

    def key(self) -> dict[str, Any]:
        """Model, pictures, heads and tokens."""
        return {
            **self.model.identity,
            "images": list_digest(self.entries),
            "image size": self.image_size or self.model.image_size,
            "batch size": self.batch_size,
            "layers": self.layers,
            "heads": self.heads,
            "tokens": self.tokens,
        }

    def read(self, index: int) -> Decoded:
        """One picture, decoded and preprocessed."""
        return Decoded(index, self.transform(self.entries[index].read()))

    def start(self) -> Total:
        """No token."""
        shape = (len(self.layers), len(self.heads), head_width(self.model.blocks[0]))
        return Total(0, ExactSum.zeros(shape), ExactSum.zeros((*shape, shape[-1])))

    def update(self, total: Total, pictures: Sequence[Decoded]) -> Total:
        """Run a batch through the model and add its tokens."""
        finite, sums, squares, tokens = [], [], [], 0
        for x in self.outputs(torch.stack([picture.pixels for picture in pictures])):  # one layer, (B, heads, N, C)
            finite.append(x.isfinite().all(-1).all(-1))
            x = x.transpose(0, 1).flatten(1, 2)  # (heads, B · N, C)
            sums.append(x.sum(1))
            squares.append(x.mT @ x)
            tokens = x.shape[1]
        names = [self.entries[picture.position].name for picture in pictures]
        sites = [f"head {head} of layer {layer}" for layer in self.layers for head in self.heads]
        require_finite(torch.cat(finite, 1), names, sites, self.model)
        more = (torch.stack(part).cpu().double().numpy() for part in (sums, squares))
        return Total(total.tokens + tokens, total.sums.plus(next(more)), total.squares.plus(next(more)))

    def outputs(self, images: Tensor) -> Iterator[Tensor]:
        """A·v / (σ·|f|) of every head for the tokens that are asked for, (B, heads, N, C), layer by layer.

        In float64, in float32 on devices that have no other.
        """
        model, found, last = self.model, list[Tensor](), list[BlockInput]()
        wide = torch.float32 if model.device.type == "mps" else torch.float64

        def see(layer: int, given: BlockInput) -> None:
            if layer in self.layers:
                found.append(head_outputs(model.blocks[layer - 1], given)[:, self.rows, self.asked])
            if layer == model.depth:
                last.append(given)

        model.run_until(images, sorted({*self.layers, model.depth}), see)
        with model.autocast():
            x = model.blocks[-1].forward(*last[0])[:, self.asked]
            features, _ = self.readout.features(x)
        factor = self.readout.scale(x).to(wide) / features.to(wide).norm(dim=-1, keepdim=True)  # (B, N, 1)
        return (each.to(wide) * factor[:, None] for each in found)

    def state(self, total: Total) -> xr.Dataset:
        """The parts of the sums."""
        parts = {name: (("part", *dims), getattr(total, name).parts) for name, dims in DIMS.items()}
        return xr.Dataset(parts | {"tokens": total.tokens})

    def restore(self, state: xr.Dataset) -> Total:
        """What `state` kept."""
        return Total(int(state.tokens), *(ExactSum(state[name].values) for name in DIMS))

    def finish(self, states: Sequence[xr.Dataset], images: int) -> xr.Dataset:
        """`mean` (layer, head, channel) and `second` (layer, head, channel, other), and the digest of the pictures."""
        tokens = sum(int(state.tokens) for state in states)
        means = {
            name: ExactSum.of_parts((state[name].values for state in states), states[0][name].shape[1:]).value()
            / tokens
            for name in DIMS
        }
        contents = contents_of(states)
        return xr.Dataset(
            {"mean": (DIMS["sums"], means["sums"]), "second": (DIMS["squares"], means["squares"])},
            attrs={"images": images, "image_list_sha256": digest(self.entries, contents)},
        )
