"""One look for each feature map, attention, variant and method, in every figure."""

from __future__ import annotations

from typing import Any

SINGLE, TEXT, DOUBLE = 3.4, 4.8, 7.0  # column widths in inches: one of two columns, ECCV's text, both columns
IDENTITY = "$I$: identity"
PUBLISHED = "published"

Look = dict[str, Any]  # what matplotlib's plot takes

# Okabe and Ito's colors, told apart by color-blind readers; each with a marker of its own for print in gray
FEATURE_STYLE: dict[str, Look] = {
    "X_res": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "X_attn": {"color": "#0072B2", "marker": "s", "linestyle": "-"},
    "X_sum": {"color": "#009E73", "marker": "^", "linestyle": (0, (4, 1.5))},
}
FEATURE_LABEL = {"X_res": r"$X_\mathrm{res}$", "X_attn": r"$X_\mathrm{attn}$", "X_sum": r"$X_\mathrm{sum}$"}
ATTENTION_STYLE: dict[str, Look] = {
    "qk": {"color": "#000000", "marker": "o"},
    "qq": {"color": "#AA3377", "marker": "D", "markersize": 3.5},
    "kk": {"color": "#56B4E9", "marker": "s"},
    "vv": {"color": "#E69F00", "marker": "^"},
    "identity": {"color": "#8C8C8C", "marker": "P", "linestyle": (0, (4, 1.5))},
}
ATTENTION_LABEL = {"qk": "q-k", "qq": "q-q", "kk": "k-k", "vv": "v-v", "identity": "$I$"}
# what a variant hands on has the color of its feature map: without FFN X_sum, without residual as well X_attn
VARIANT_STYLE: dict[str, Look] = {
    "full": {"color": "#8C8C8C", "marker": "o", "label": "as it is"},
    "-FFN": {"color": FEATURE_STYLE["X_sum"]["color"], "marker": "v", "label": "− FFN"},
    "-RC": {"color": "#8FCBEF", "marker": "^", "label": "− RC"},
    "-RC-FFN": {"color": FEATURE_STYLE["X_attn"]["color"], "marker": "*", "markersize": 6, "label": "− RC − FFN"},
}
METHOD_STYLE: dict[str, Look] = {
    "clip": {"color": "#000000", "marker": "o"},
    "maskclip": {"color": "#E69F00", "marker": "^"},
    "sclip": {"color": "#AA3377", "marker": "D"},
    "gem": {"color": "#CC79A7", "marker": "s"},
    "TCL": {"color": "#8C8C8C", "marker": "v"},
    "clearclip": {"color": FEATURE_STYLE["X_attn"]["color"], "marker": "*"},
}
# published values are open diamonds; one that lies under the marker of a line is a ring around it
PUBLISHED_STYLE: Look = {
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "markersize": 3.6,
    "markeredgewidth": 0.8,
}
RING = 6.0
SMALL_PRINT: Look = {"fontsize": 6.5, "color": "#555555"}
