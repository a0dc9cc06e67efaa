"""What the statistics of the blocks say: one sentence per model, of means over all pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pandas as pd
import xarray as xr

from analysis.probes import over_images
from analysis.readings.words import beside, times
from clearclip.words import listed

COLLAPSED = 0.5  # of the largest entropy before it
CARRIED = 10  # times the share that the strongest channels would have if all were equally strong
STRONGEST = 5  # channels of channel_dominance


def entropy(dataset: xr.Dataset, tokens: str = "patches") -> list[str]:
    """From which layer on a map's entropy has collapsed, if it has (paper Fig. 4a)."""
    sentences = []
    for model, curves in by_model(dataset, "entropy", tokens):
        clauses = {str(feature): _entropy_course(curves[feature].dropna()) for feature in curves}
        (first, clause), *rest = clauses.items()
        if len(set(clauses.values())) == 1 and rest:
            sentences.append(f"The entropy of {', '.join(clauses)} of {model} {clause}.")
        else:
            others = "".join(f"; that of {feature} {course}" for feature, course in rest)
            sentences.append(f"The entropy of {first} of {model} {clause}{others}.")
    return sentences


def _entropy_course(curve: pd.Series) -> str:
    """What the entropy does from the first layer to the last.

    >>> _entropy_course(pd.Series({1: 0.97, 2: 0.95, 3: 0.1, 4: 0.03}))
    'collapses from layer 3 on: 0.97 → 0.03'
    >>> _entropy_course(pd.Series({1: 0.97, 2: 0.968}))
    'stays above 0.96'
    >>> _entropy_course(pd.Series({1: 0.97, 2: 0.1, 3: 0.9}))
    'falls to 0.10 in layer 2 and is 0.90 in the last'
    """
    low = curve < COLLAPSED * curve.cummax()
    if low.any() and not low.iloc[-1]:
        return f"falls to {curve.min():.2f} in layer {curve.idxmin()} and is {curve.iloc[-1]:.2f} in the last"
    if not low.any():
        return f"stays above {max(0.0, math.ceil(100 * curve.min()) - 1) / 100:.2f}"
    start = len(low) - int(low[::-1].astype(int).cumprod().sum())  # the last run of low values
    return f"collapses from layer {curve.index[start]} on: {curve.iloc[:start].max():.2f} → {curve.iloc[-1]:.2f}"


def maximum(dataset: xr.Dataset, tokens: str = "patches") -> list[str]:
    """How the largest entry of X_res grows, and how it stands beside that of X_attn (paper Fig. 4b)."""
    sentences = []
    for model, curves in by_model(dataset, "maximum", tokens):
        curve = curves.iloc[:, 0].dropna()
        feature, first, last = curves.columns[0], curve.iloc[0], curve.iloc[-1]
        layers = f"from layer {curve.index[0]} to layer {curve.index[-1]}"
        if not min(first, last) > 0:
            how = f"goes from {first:.3g} to {last:.3g} {layers}"
        elif last >= 2 * first:
            how = f"grows {times(last / first)} {layers}, {first:.3g} → {last:.3g}"
        elif first >= 2 * last:
            how = f"shrinks {times(first / last)} {layers}, {first:.3g} → {last:.3g}"
        else:
            how = f"changes little {layers}, {first:.3g} → {last:.3g}"
        sentences.append(f"The largest entry of {feature} of {model} {how}{_beside_attention(curves)}.")
    return sentences


def frobenius_norm(dataset: xr.Dataset, tokens: str = "patches") -> list[str]:
    """Which of X_res and X_attn is stronger in the last block (paper Fig. 2)."""
    sentences = []
    for model, curves in by_model(dataset, "frobenius_norm", tokens):
        last = curves.iloc[-1]
        norms = ", ".join(f"{feature} {norm:.3g}" for feature, norm in last.items())
        if {"X_res", "X_attn"} <= set(last.index):
            sizes = beside("X_res", last.X_res, "X_attn", last.X_attn)
            sentences.append(f"In layer {last.name} of {model} {sizes} (norms: {norms}).")
        else:
            sentences.append(f"Norms in layer {last.name} of {model}: {norms}.")
    return sentences


def channel_dominance(dataset: xr.Dataset, tokens: str = "patches") -> list[str]:
    """Whether a few channels carry the maps of the last layer (paper Fig. 4c)."""
    sentences = []
    for model, curves in by_model(dataset, "channel_dominance", tokens):
        last = curves.iloc[-1]
        even = STRONGEST / width(dataset, model)
        carried = [str(feature) for feature, share in last.items() if share > CARRIED * even]
        shares = ", ".join(f"{share:.0%} of {feature}" for feature, share in last.items())
        verdict = f"so a few channels carry {listed(carried)}" if carried else "so no map is carried by a few channels"
        sentences.append(
            f"In layer {last.name} of {model} the {STRONGEST} strongest channels hold {shares}, where equal channels "
            f"would hold {even:.1%}, {verdict}."
        )
    return sentences


def width(dataset: xr.Dataset, model: str) -> int:
    """How many channels a model has; those that a wider one has more are NaN."""
    means = dataset.channel_mean.sel(model=model)
    return int(means.notnull().any([dim for dim in means.dims if dim != "channel"]).sum())


def outliers(dataset: xr.Dataset, tokens: str = "patches") -> list[str]:
    """In which layer tokens stand out, if any do."""
    sentences = []
    for model, shares in by_model(dataset, "outlier_share", tokens):
        feature, share = str(shares.max().idxmax()), float(shares.max().max())
        layer = shares[feature].idxmax()
        if share > 0:
            sentences.append(
                f"Tokens of {model} stand out most in {feature} of layer {layer}: {share:.1%} of them are longer than "
                "three times the median."
            )
        else:
            sentences.append(f"No token of {model} is longer than three times the median of its map.")
    return sentences


def by_model(dataset: xr.Dataset, variable: str, tokens: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Means over the pictures of one model after another: rows are layers, columns are features."""
    for model in dataset.model.values.tolist():
        values = dataset[variable].sel(model=model, tokens=tokens)
        means = over_images.mean(values).reset_coords(drop=True)
        frame = means.to_series().unstack("feature")[means.feature.values]
        yield model, frame.dropna(how="all").dropna(axis=1, how="all")


def _beside_attention(curves: pd.DataFrame) -> str:
    last = curves.iloc[-1]
    if not {"X_res", "X_attn"} <= set(last.index) or not min(last.X_res, last.X_attn) > 0:
        return ""
    return f"; there {beside('that of X_res', last.X_res, 'that of X_attn', last.X_attn)}"


READINGS: dict[str, Callable[[xr.Dataset, str], list[str]]] = {  # what a command's table is about → its reading
    "entropy": entropy,
    "maximum": maximum,
    "frobenius_norm": frobenius_norm,
    "channel_dominance": channel_dominance,
    "norm_ratio": outliers,
}
