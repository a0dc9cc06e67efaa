"""The static twin: one page that works from the disk, with everything it shows inside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import matplotlib
import numpy as np

from analysis.explorer import board, compressed, segments
from analysis.explorer.passes import Pass
from analysis.explorer.pixels import png
from analysis.explorer.views import Point
from clearclip.errors import UserError
from clearclip.models.block import FEATURES
from clearclip.segmentation.result import Segmentation
from clearclip.version import __version__

HERE = Path(__file__).parent
MOST_BYTES = 5_000_000  # of the whole page
REST = 900_000  # of them for everything but the features: maps, curves, the picture
GUIDE = (
    "<b>Click on the picture.</b> The brighter a patch, the more the model takes it for the same thing. "
    "Then move the layer slider, and watch what changes from the first block to the last."
)


def html(
    seen: Sequence[Pass],
    at: Point,
    layer: int | None = None,
    results: Mapping[str, Mapping[str, Segmentation]] | None = None,
    title: str = "What does the model see?",
    source: str = "",
) -> str:
    """A whole page about one picture.

    Args:
        seen: what one or two models made of it.
        at: the point that asks at first.
        layer: that is shown first; None for the last.
        results: label maps by model and recipe, for models that were asked for names.
        title: the page's title.
        source: where picture and weights come from, as text.

    Raises:
        UserError: it would be larger than 5 MB.
    """
    layer = layer or max(each.model.depth for each in seen)
    depth = max(each.model.depth for each in seen)
    small = [compressed.of_pass(each, (MOST_BYTES - REST) // len(seen)) for each in seen]
    boards = "".join(board.board(each, layer, at, attention=False) for each in seen)
    labels = "".join(
        segments.board(each, results[each.model.name], at, scored=False)
        for each in seen
        if results and each.model.name in results
    )
    data = {
        "models": [_model(each, part) for each, part in zip(seen, small, strict=True)],
        "features": FEATURES,
        "viridis": (matplotlib.colormaps["viridis"](np.arange(256), bytes=True)[:, :3]).ravel().tolist(),
    }
    parts = {
        "title": escape(title),
        "css": (HERE / "board.css").read_text("utf-8") + (HERE / "twin.css").read_text("utf-8"),
        "guide": GUIDE,
        "depth": str(depth),
        "layer": str(layer),
        "boards": boards,
        "labels": f'<hr><label class="slider">Opacity <input id="opacity" type="range" min="0" max="1" '
        f'step="0.01" value="0.62"></label><div class="explorer">{labels}</div>'
        if labels
        else "",
        "note": _note(seen, small, source),
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "script": (HERE / "board.js").read_text("utf-8") + (HERE / "twin.js").read_text("utf-8"),
    }
    page = (HERE / "twin.html").read_text("utf-8")
    for name, content in parts.items():
        page = page.replace(f"<!--{name}-->", content)
    if len(page.encode()) > MOST_BYTES:
        raise UserError(
            f"the page would have {len(page.encode()) / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:g} MB: choose a smaller "
            "--image-size, or one model."
        )
    return page


def _model(seen: Pass, small: compressed.Compressed) -> dict[str, object]:
    """What the page's script needs of one model; maps that no click changes are tiles of one picture, layers × features."""
    rows, columns = seen.grid
    layers = seen.model.layers()
    drawn = {kind: [board.maps(seen, layer, (0, 0), kind) for layer in layers] for kind in ("pca", "norm")}
    return {
        "name": seen.model.name,
        "depth": seen.model.depth,
        "rows": rows,
        "columns": columns,
        "widths": [site.numbers.shape[1] for site in small.sites],
        "scales": [[float(f"{scale:.4g}") for scale in site.scales] for site in small.sites],
        "numbers": base64.b64encode(compressed.packed(small.sites)).decode(),
        "tiles": {
            kind: png(np.vstack([np.hstack([each[f][0] for f in FEATURES]) for each in maps]))
            for kind, maps in drawn.items()
        },
        "captions": [[each[f][1] for f in FEATURES] for each in drawn["norm"]],
    }


def _note(seen: Sequence[Pass], small: Sequence[compressed.Compressed], source: str) -> str:
    """What has to be known of the page's numbers."""
    accuracy = "; ".join(
        f"{escape(each.model.name)}: {part.mean:.3f} off on average and {part.largest:.2f} at most"
        for each, part in zip(seen, small, strict=True)
    )
    weights = "; ".join(f"{each.model.name}: {each.model.weights.name} ({each.model.architecture})" for each in seen)
    about = f"{escape(source)} " if source else ""
    return (
        f"{about}Weights: {escape(weights)}. Cosines are computed in this page from compressed features ({accuracy}, over all "
        f"pairs of patches, layers and maps). Made with <code>clearclip explore --export</code>, clearclip-analysis {__version__}."
    )
