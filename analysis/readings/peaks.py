"""What peaks say: where the one that was taken apart stands, who wrote it, and how it grew through the layers."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from analysis.attribution.peak_tables import asked, holders, ranked
from analysis.readings.words import times
from clearclip.words import listed


def peaks(dataset: xr.Dataset) -> list[str]:
    """Three sentences on each model."""
    held = holders(dataset)
    sentences = []
    for model in dataset.model.values.tolist():
        of_model = dataset.sel(model=model)
        layer, feature = int(of_model.asked_layer), of_model.asked_feature.item()
        rows = held[(held.model == model) & (held.layer == layer) & (held.feature == feature)]
        sentences += [
            f"{model}: the peak of {feature} in layer {layer} stands {_where(rows)}.",
            _who(of_model),
            _how_large(of_model, layer, feature),
        ]
    return sentences


def _where(rows: pd.DataFrame) -> str:
    """Channel, steadiness, sign and tokens.

    >>> counts = {"channel": [278], "images": [3], "positive": [3], "CLS": [2], "register": [0], "patch": [1]}
    >>> _where(pd.DataFrame(counts))
    'in channel 278 (3 of 3 pictures, positive), on CLS in 2 and on a patch in 1'
    """
    most, pictures = rows.iloc[0], int(rows.images.sum())
    signs = {0: "negative", most.images: "positive"}
    sign = signs.get(most.positive, f"positive in {most.positive}")
    names = {"CLS": "CLS", "register": "a register", "patch": "a patch"}
    counts = {name: int(rows[key].sum()) for key, name in names.items()}
    on = listed([f"on {name} in {count}" for name, count in counts.items() if count])
    others = f", otherwise in {len(rows) - 1} other channel{'s' * (len(rows) > 2)}" if len(rows) > 1 else ""
    return f"in channel {most.channel} ({most.images} of {pictures} pictures, {sign}){others}, {on}"


def _who(dataset: xr.Dataset) -> str:
    """The part that wrote most of the peak, and the strongest neuron and head."""
    part, head, neuron = (
        max(ranked(dataset, variable), key=lambda each: each.share)
        for variable in ("written", "written_by_head", "written_by_neuron")
    )
    layer = part.layer
    name = {
        "embedding": "the embedding",
        "attention": f"the attention of layer {layer}",
        "ffn": f"the FFN of layer {layer}",
        "bias": f"the biases of layer {layer}",
        "intervention": f"the intervention in layer {layer}",
    }[part.part]
    return (
        f"{part.share:.0%} of it was written by {name}; the strongest neuron, neuron {neuron.part} of layer {neuron.layer}, wrote "
        f"{neuron.share:.0%}, and the strongest head, head {head.part} of layer {head.layer}, {head.share:.0%}."
    )


def _how_large(dataset: xr.Dataset, layer: int, feature: str) -> str:
    """The peak beside the median of its map, and beside the peak of the same map in the first layer."""
    place = asked(dataset)
    maps = dataset.sel(feature=feature, rank=1)
    sizes = abs(maps.peak).mean("image").dropna("layer")
    last, early, median = float(sizes.sel(layer=layer)), float(sizes[0]), float(maps["median"].sel(layer=layer).mean())
    beside = f"its magnitude, {last:.3g}, is {times(_ratio(last, median))} the median of its map"
    if layer != int(sizes.layer[0]):
        beside += f" and {times(_ratio(last, early))} the peak of {feature} in layer {int(sizes.layer[0])}"
    return f"It holds {float(place.peak_share.mean()):.0%} of its token's squared norm; {beside}."


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("inf")
