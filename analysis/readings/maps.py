"""What pictures say in numbers: how far attention spreads, how high channels stand, which label maps are right."""

from __future__ import annotations

from itertools import combinations

import xarray as xr

from analysis.attribution.maps import strongest
from analysis.probes.attention import patches_covered
from analysis.probes.feature_maps import peaks
from analysis.probes.similarity import contrast
from clearclip.words import listed


def attention(dataset: xr.Dataset) -> list[str]:
    """How many patches the attention covers in the last layer that was measured, for every product."""
    covered = patches_covered(dataset).mean(("image", "head"))
    sentences = []
    for model in dataset.model.values.tolist():
        last = covered.sel(model=model).dropna("layer", how="all").isel(layer=-1)
        seen = dataset.attention.sel(model=model).isel(image=0, affinity=0, head=0, drop=True).sel(layer=last.layer)
        patches = int(seen.notnull().sum())
        counts = dict(zip(last.affinity.values.tolist(), last.values.tolist(), strict=True))
        each = listed([f"{count:.0f} with {product}" for product, count in counts.items()])
        narrow, wide = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        contrast = "" if counts[wide] < 1.1 * counts[narrow] else f"; {narrow} looks at the fewest"
        sentences.append(
            f"The attention of {model} in layer {int(last.layer)} covers of {patches} patches {each}{contrast}."
        )
    return sentences


def similarity(dataset: xr.Dataset) -> list[str]:
    """In which map and layer the patch stands out most from the others, and what the last layer makes of it."""
    contrasts = contrast(dataset).mean("image")
    sentences = []
    for model in dataset.model.values.tolist():
        of_model = contrasts.sel(model=model).dropna("layer", how="all")
        best = of_model.isel(of_model.argmax(("layer", "feature")))
        last = of_model.isel(layer=-1)
        ends = listed([f"{float(last.sel(feature=name)):.2f} in {name}" for name in last.feature.values.tolist()])
        sentences.append(
            f"In {model} the patch finds its like most clearly in {best.feature.item()} of layer {best.layer.item()} "
            f"(contrast {float(best):.2f}); in the last layer it is {ends}."
        )
    return sentences


def attribution(dataset: xr.Dataset) -> list[str]:
    """Whether heads or FFNs draw each direction, and which components most."""
    sentences = []
    top = strongest(dataset, 3)
    for (model, image, direction), part in top.groupby(["model", "image", "direction"], sort=False):
        cell = dataset.sel(model=model, image=image, direction=direction)
        shares = {
            name: cell.attribution[(cell.kind == kind).values].sum("component").std(("row", "column"))
            for name, kind in (("heads", "head"), ("FFNs", "ffn"))
        }
        more = max(shares, key=lambda name: float(shares[name]))
        sentences.append(
            f"In {model}, {direction} in {image} is drawn by {listed(part['component'].tolist())}; together the {more} make more "
            f"difference from patch to patch ({listed([f'{name} {float(value):.3f}' for name, value in shares.items()])})."
        )
    return sentences


def pca(dataset: xr.Dataset) -> list[str]:
    """What share of the variance the components have together, in every map of the last layer that was measured."""
    count = dataset.sizes["component"]
    holding = "the first principal component holds" if count == 1 else f"{count} principal components hold"
    sentences = []
    for model in dataset.model.values.tolist():
        shares = dataset.explained_variance_ratio.sel(model=model).dropna("layer", how="all").isel(layer=-1)
        together = shares.sum("component").to_series()
        each = listed([f"{share:.0%} in {feature}" for feature, share in together.items()])
        sentences.append(
            f"In layer {int(shares.layer)} of {model} {holding} this share of the variance of the "
            f"{dataset.attrs['pca_of']}: {each}."
        )
    return sentences


def feature_maps(dataset: xr.Dataset) -> list[str]:
    """How far the strongest channel stands above the median entry of its map, in the last layer that was measured."""
    rows = peaks(dataset.feature_map, count=1)
    rows = rows.assign(ratio=rows["value"].abs() / rows["median"])
    sentences = []
    for model, of_model in rows.groupby("model", sort=False):
        layer = of_model.layer.max()
        ratios = of_model[of_model.layer == layer].groupby("feature", sort=False).ratio.mean()
        heights = listed([f"{ratio:.0f} in {feature}" for feature, ratio in ratios.items()])
        sentences.append(
            f"In layer {layer} of {model} the strongest channel stands above the median entry by a factor of {heights}."
        )
    return sentences


def label_maps(dataset: xr.Dataset) -> list[str]:
    """Which recipe labels most pixels rightly, or, without true labels, which two recipes agree least."""
    sentences = []
    for model in dataset.model.values.tolist():
        of_model = dataset.sel(model=model)
        if "pixel_accuracy" in dataset:
            means = of_model.pixel_accuracy.mean("image").to_series()
            best, worst = means.idxmax(), means.idxmin()
            against = "" if best == worst else f", against {means[worst]:.0f} % by {worst}, the fewest"
            sentences.append(f"{best} labels {means[best]:.0f} % of the pixels of {model}'s pictures rightly{against}.")
        elif dataset.sizes["recipe"] > 1:
            first, second = min(
                combinations(dataset.recipe.values.tolist(), 2), key=lambda pair: agreement(of_model, *pair)
            )
            share = agreement(of_model, first, second)
            sentences.append(f"With {model}, {first} and {second} agree least: on {share:.0%} of the pixels.")
    return sentences


def agreement(dataset: xr.Dataset, first: str, second: str) -> float:
    """The share of the pixels of all pictures that two recipes give the same class."""
    a, b = (dataset.labels.sel(recipe=recipe) for recipe in (first, second))
    inside = a != dataset.labels.attrs["not_labelled"]  # beyond a smaller picture nothing is labelled
    return float(((a == b) & inside).sum() / inside.sum())
