"""The board: what one model makes of the picture, as HTML that the page and its static twin share."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from analysis.explorer import curves, views
from analysis.explorer.passes import Pass
from analysis.explorer.pixels import colored, jpeg, png, shares_as_bytes
from clearclip.models.block import FEATURES
from clearclip.runs.results import shipped_name

IN_WORDS = {"X_res": "what the block receives", "X_attn": "what attention adds", "X_sum": "their sum"}
PRODUCTS = {"qk": "q-k, the model’s own", "qq": "q-q", "kk": "k-k", "vv": "v-v"}
ROWS = {  # what each row of maps shows → how it is read
    "similarity": ("Like the patch in the ring", "yellow: the model takes it for the same thing"),
    "pca": ("Colors", "patches of one color point the same way (three principal components)"),
    "norm": ("Length", "yellow: a long vector, dark: a short one"),
    "attention": ("Where the patch in the ring looks", "bright: it listens to this patch"),
}


def board(seen: Pass, layer: int, at: views.Point, head: int = 0, attention: bool = True) -> str:
    """Everything that the page shows of one model at one layer and point.

    Args:
        layer: counted from 1; of a shallower model its last one.
        at: the point that asks, as shares of height and width.
        head: whose attention, counted from 1; 0 for the mean.
        attention: whether its row is shown.
    """
    layer, model = min(layer, seen.model.depth), seen.model
    rows = [map_row(kind, maps(seen, layer, at, kind), seen, at) for kind in ("similarity", "pca", "norm")]
    if attention:
        rows.append(map_row("attention", attention_maps(seen, layer, at, head), seen, at))
    top, shown = photo(seen, at) + curves.drawing(seen, layer), header() + "".join(rows)
    return (
        f'<section class="board" data-model="{escape(model.name)}" aria-label="{escape(model.name)}">'
        f'<h2>{escape(model.name)} <small>layer <b class="layer">{layer}</b> of {model.depth}{about(seen)}</small></h2>'
        f'<div class="top">{top}</div><div class="rows">{shown}</div></section>'
    )


def about(seen: Pass) -> str:
    """What has to be known of a model before anything is concluded from it."""
    if seen.model.weights.random:
        return " · <b class=warning>RANDOM WEIGHTS: the picture means nothing</b>"
    if shipped_name(seen.model.architecture, seen.model.weights.name):
        return " · a small model, trained on drawn scenes only"
    return ""


def photo(seen: Pass, at: views.Point) -> str:
    """The picture, the one element that takes the keyboard's focus."""
    rows, columns = seen.grid
    row, column = seen.patch(at)
    said = f"The picture, row {row + 1} of {rows}, column {column + 1} of {columns}. Arrow keys choose another patch."
    return (
        f'<figure class="photo"><div class="map" tabindex="0" role="application" aria-label="{said}" '
        f'data-rows="{rows}" data-columns="{columns}"><img alt="" src="{jpeg(seen.picture)}">{ring(seen, at)}</div></figure>'
    )


def ring(seen: Pass, at: views.Point) -> str:
    """A ring around the patch that asks."""
    (rows, columns), (row, column) = seen.grid, seen.patch(at)
    return (
        f'<i class="ring" style="top:{100 * (row + 0.5) / rows:.2f}%;left:{100 * (column + 0.5) / columns:.2f}%"></i>'
    )


def header() -> str:
    """What the three columns are, in words."""
    cells = (
        f'<div class="{name}"><b>{words}</b> <span>X<sub>{name[2:]}</sub></span></div>'
        for name, words in IN_WORDS.items()
    )
    return f'<div class="row header">{"".join(cells)}</div>'


def maps(seen: Pass, layer: int, at: views.Point, kind: str) -> dict[str, tuple[np.ndarray, str]]:
    """Pixels (rows, columns, 3) and a caption for X_res, X_attn and X_sum."""
    drawn = {}
    for feature in FEATURES:
        if kind == "pca":
            drawn[feature] = shares_as_bytes(views.pca_colors(seen, layer, feature)), ""
        elif kind == "norm":
            values = views.token_norm(seen, layer, feature)
            drawn[feature] = colored(values, "cividis"), f"{values.min():.3g} … {values.max():.3g}"
        else:
            drawn[feature] = cosine_map(views.similarity(seen, layer, feature, at))
    return drawn


def cosine_map(values: np.ndarray) -> tuple[np.ndarray, str]:
    """A map of cosines from its lowest to its highest, so that colors say where, and its caption how much.

    >>> cosine_map(np.array([[-0.5, 1.0]]))[1]
    'cosine −0.50 … 1.00'
    """
    return colored(values, "viridis"), f"cosine {values.min():.2f} … {values.max():.2f}".replace("-", "−")


def attention_maps(seen: Pass, layer: int, at: views.Point, head: int) -> dict[str, tuple[np.ndarray, str]]:
    """Pixels and a caption for every product, each from 0 to its own 99.5th percentile."""
    return {
        name: (colored(values, "magma", 0, float(np.quantile(values, 0.995))), PRODUCTS[name])
        for name, values in views.attention(seen, layer, at, head).items()
    }


def map_row(kind: str, drawn: Mapping[str, tuple[np.ndarray, str]], seen: Pass, at: views.Point) -> str:
    """One row of maps that can be clicked."""
    title, reading = ROWS[kind]
    cells = "".join(
        f'<figure><div class="map" data-kind="{kind}" data-name="{name}"><img alt="{title}, {name}" src="{png(pixels)}">'
        f"{ring(seen, at)}</div><figcaption>{escape(caption)}</figcaption></figure>"
        for name, (pixels, caption) in drawn.items()
    )
    return (
        f'<h3>{title} <small>{reading}</small></h3><div class="row {kind}" style="--columns:{len(drawn)}">{cells}</div>'
    )
