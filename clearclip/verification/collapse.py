"""What the paper's Fig. 4 shows, as numbers: entropy and maximum of the feature maps, on natural photographs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES
from clearclip.verification.own_code import sites
from clearclip.verification.pictures import Pictures


def entropy(x: Tensor) -> float:
    """Normalized entropy of one map (L, D), paper eq. 5, written here for itself and in float64.

    >>> entropy(torch.zeros(3, 4)), round(entropy(torch.eye(3) * 900), 3)
    (1.0, 0.5)
    """
    logs = x.double().flatten().log_softmax(0)
    return -(logs.exp() * logs).sum().item() / math.log(x.numel())


def measured(model: Backbone, pictures: Pictures) -> dict[str, Tensor]:
    """Mean entropy and mean maximum over photographs, of the patches, each (layers, features)."""
    photographs = pictures.natural()
    means = {name: torch.zeros(model.depth, len(FEATURES), dtype=torch.float64) for name in ("entropy", "maximum")}
    for photograph in photographs:

        def see(layer: int, maps: dict[str, Tensor]) -> None:
            for i, feature in enumerate(FEATURES):
                x = maps[feature][0, model.prefix_tokens :]
                means["entropy"][layer - 1, i] += entropy(x) / len(photographs)
                means["maximum"][layer - 1, i] += x.max().item() / len(photographs)

        sites(model, model.transform()(photograph)[None], see)
    return means


def last_entropies(model: Backbone, pictures: Pictures) -> list[float]:
    """Entropy of X_res, and what X_attn's lacks to 1, in the last layer."""
    residual, attention, _ = measured(model, pictures)["entropy"][-1].tolist()
    return [residual, 1 - attention]


def growth_of_maximum(model: Backbone, pictures: Pictures) -> list[float]:
    """Maximum of X_res in the last layer over its median in the first half of the layers."""
    residual = measured(model, pictures)["maximum"][:, 0]
    return [(residual[-1] / residual[: model.depth // 2].median()).item()]


def smallest_entropy(model: Backbone, pictures: Pictures) -> list[float]:
    """The smallest entropy of all layers and features."""
    return [measured(model, pictures)["entropy"].min().item()]


def middle_maximum(model: Backbone, pictures: Pictures) -> list[float]:
    """The median over layers and features of the maximum."""
    return [measured(model, pictures)["maximum"].median().item()]
