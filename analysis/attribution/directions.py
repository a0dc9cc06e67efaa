"""What scores are taken apart for: class names, or, where there is no text tower, prototypes, channels or any vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.prototypes.nearest import class_shares
from analysis.prototypes.pictures import prepared
from clearclip.datasets.base import LabelledPictures, Sample
from clearclip.errors import UserError, refuse_repeated
from clearclip.methods.windows import Windows
from clearclip.models.backbone import Backbone
from clearclip.segmentation.text import embed


class Directions(NamedTuple):
    """Vectors in the space of a model's features, with their names.

    Args:
        names: one for each.
        vectors: (T, E).
        owner: the class that each speaks for, (T,).
    """

    names: list[str]
    vectors: Tensor
    owner: Tensor


def of_texts(
    model: Backbone,
    classes: str | Sequence[str | Sequence[str]],
    prompts: str | Sequence[str] = "imagenet",
    cache: Path | None = None,
) -> Directions:
    """The text embeddings of class names, as `clearclip.segmentation.text.embed` makes them."""
    queries = embed(model, classes, prompts, cache)
    parts = classes.split(",") if isinstance(classes, str) else classes
    groups = [part.split("|") if isinstance(part, str) else part for part in parts]
    return Directions([name.strip() for group in groups for name in group], queries.embeddings, queries.owner)


def of_vectors(model: Backbone, vectors: Mapping[str, Any]) -> Directions:
    """Vectors of one's own by name, each (E,)."""
    rows = [torch.as_tensor(vector, dtype=torch.float32) for vector in vectors.values()]
    if not rows or any(row.ndim != 1 or row.shape != rows[0].shape for row in rows):
        raise UserError('vectors: at least one, all of one length, as in {"cat": [0.1, …]}.')
    return Directions(list(vectors), torch.stack(rows).to(model.device), torch.arange(len(rows), device=model.device))


def of_channels(model: Backbone, channels: Sequence[int]) -> Directions:
    """Single channels of the features, counted from 0."""
    refuse_repeated("channels", channels)
    width = features_of(model, torch.zeros(1, 1, model.width, device=model.device, dtype=model.dtype)).shape[-1]
    if not channels or not all(0 <= channel < width for channel in channels):
        raise UserError(f"channels {list(channels)}: the features of {model.name} have channels 0 … {width - 1}.")
    return of_vectors(model, {f"channel {channel}": torch.eye(width)[channel] for channel in channels})


@torch.inference_mode()
def of_prototypes(model: Backbone, dataset: LabelledPictures, samples: Sequence[Sample]) -> Directions:
    """What the features of each class's patches have in common: their mean at length 1, weighted by how much of them it covers.

    Args:
        model: any.
        dataset: whose classes.
        samples: its pictures with their labels.

    Raises:
        UserError: no pixel of them has a class.
    """
    total, weights = torch.zeros(()), torch.zeros(len(dataset.classes), device=model.device)
    for images, labels in prepared(model, Windows.of(model), samples):
        grid = model.grid((images.shape[-2], images.shape[-1]))
        shares = torch.stack([class_shares(label, grid, len(dataset.classes)) for label in labels])  # (B, C, N)
        features = F.normalize(features_of(model, model.last_tokens(images))[:, model.prefix_tokens :], dim=-1)
        total = total.to(model.device) + (shares @ features).sum(0)  # (C, E)
        weights += shares.sum((0, 2))
    seen = weights.nonzero()[:, 0]
    if not len(seen):
        raise UserError(
            f"no pixel of {len(samples)} pictures of {dataset.name} has a class, so there are no prototypes."
        )
    return Directions([dataset.classes[i] for i in seen.tolist()], total[seen], seen)


@torch.inference_mode()
def features_of(model: Backbone, tokens: Tensor) -> Tensor:
    """Tokens behind the final norm, in the space that directions lie in, (B, L, D) → (B, L, E) float32."""
    with model.autocast():
        return (model.project(tokens) if model.has_projection else tokens).float()
