"""What does a feature map look like? Token × channel surfaces of X_res, X_attn, X_sum, peaks marked (paper Fig. 9).

    python -m analysis.featuremaps --model clip_vitb16 --layers 12 --limit 2

The Dataset holds the whole maps (image, layer, feature, token, channel), so name few pictures and layers; by default
it is two pictures and the last layer.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.commands import Options, announce, load_one_by_one, paths, with_origin
from clearclip.cli import options, run
from clearclip.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.axes3d import Axes3D

    from analysis.probes.images import Picture
    from clearclip.models.backbone import Backbone

PEAKS = 3  # channels marked in a surface
CELLS = (
    96  # a surface is drawn with at most so many cells a side; each shows its most extreme value, so no peak is lost
)


@dataclass(frozen=True)
class FeaturemapOptions(Options):
    """Which model, which pictures, which layers, and where the results go."""

    limit: int | None = 2
    """Only the first so many pictures."""


def feature_maps(
    model: "Backbone", pictures: "list[Picture]", layers: tuple[int, ...] | None = None, image_size: int | None = None
) -> "xr.Dataset":
    """The maps themselves, (model, image, layer, feature, token, channel) float32, of few pictures and layers."""
    import numpy as np
    import torch
    import xarray as xr

    from analysis.probes.collection import describe_model
    from analysis.probes.probe import Probe
    from clearclip.models.block import FEATURES

    wanted = layers or (model.depth,)
    transform = model.transform(image_size)
    probe: Probe[torch.Tensor] = Probe(model, wanted, keep=True)
    maps = []
    with torch.inference_mode(), probe:
        for picture in pictures:
            sites = probe.run(transform(picture.read())[None]).values()
            maps.append(torch.cat([x.float().cpu() for x in sites]))  # (layer · feature, T, D)
    values = torch.stack(maps).unflatten(1, (len(wanted), len(FEATURES))).numpy()[None]
    dataset = xr.Dataset(
        {
            "feature_map": (
                ("model", "image", "layer", "feature", "token", "channel"),
                values,
                {"long_name": "feature map", "units": "model units"},
            )
        },
        {
            "model": [model.name],
            "image": [picture.name for picture in pictures],
            "layer": list(wanted),
            "feature": list(FEATURES),
            "token": np.arange(values.shape[-2]),
            "channel": np.arange(values.shape[-1]),
        },
    )
    return describe_model(dataset, model, image_size, pictures)


def peaks(values: "xr.DataArray", count: int = PEAKS) -> "pd.DataFrame":
    """The channels with the largest absolute entry of each map: channel, that entry, its token, and the map's median.

    One row a model, image, layer, feature and rank; `median` is the median absolute entry, in the model's own units.
    """
    import numpy as np
    import pandas as pd

    rows = []
    stacked = values.stack(site=("model", "image", "layer", "feature")).transpose("site", "token", "channel")
    for site, one in zip(stacked.site.values, stacked.values, strict=True):
        one = one[:, np.isfinite(one).any(0)]  # beside a wider model the missing channels are NaN …
        one = one[np.isfinite(one).all(1)]  # … and beside one with more tokens the missing tokens
        if not one.size:
            continue
        size = np.abs(one)
        for rank, channel in enumerate(np.argsort(-size.max(0))[:count], 1):
            token = int(size[:, channel].argmax())
            rows.append((*site, rank, int(channel), token, float(one[token, channel]), float(np.median(size))))
    names = ["model", "image", "layer", "feature", "rank", "channel", "token", "value", "median"]
    return pd.DataFrame(rows, columns=names)


def figure(dataset: "xr.Dataset", tokens: str = "patches") -> "Figure":
    """Fig. 9: a row a picture (and model and layer), a column a feature; the strongest channels are marked and named."""
    from analysis.plots import lines as plot

    if "feature_map" not in dataset:
        raise UserError("this Dataset has no feature maps: write it with python -m analysis.featuremaps.")
    features = dataset.feature.values.tolist()
    rows = [
        (model, image, layer)
        for model in dataset.model.values.tolist()
        for image in dataset.image.values.tolist()
        for layer in dataset.layer.values.tolist()
        if dataset.feature_map.sel(model=model, image=image, layer=layer).notnull().any()
    ]
    with plot.style():
        shown, axes = plot.panels(
            len(features),
            width=2.6,
            height=2.0,
            rows=len(rows),
            subplot_kw={"projection": "3d", "computed_zorder": False},
        )
        for line, (model, image, layer) in zip(axes, rows, strict=True):
            first = 0 if tokens == "all" else int(dataset.prefix_tokens.sel(model=model))
            for panel, feature in zip(line, features, strict=True):
                one = dataset.feature_map.sel(model=model, image=image, layer=layer, feature=feature)
                one = one.dropna("channel", how="all").dropna("token", how="all").isel(token=slice(first, None))
                _surface(panel, one.values, plot.FEATURE_STYLE[feature]["color"], first)
                panel.set_title(f"{plot.FEATURE_LABEL[feature]}, layer {layer}", y=0.94)
            random = " (random weights)" if bool(dataset.random_weights.sel(model=model)) else ""
            line[0].text2D(
                -0.12,
                0.5,
                f"{model}{random}\n{image}",
                transform=line[0].transAxes,
                rotation=90,
                ha="center",
                va="center",
                fontsize=7.5,
                color=plot.WARNING_COLOR if random else "black",
            )
        kind = {"patches": "patch tokens", "all": "all tokens"}[tokens]
        shown.supxlabel(
            f"{kind}, counted from 0 with CLS and registers · values in model units, a drawn cell shows its most extreme one · "
            f"marked: the {PEAKS} channels with the largest absolute entry",
            fontsize=6.5,
            color="#555555",
        )
    return shown


def _surface(axes: "Axes3D", values: "np.ndarray", color: str, first: int = 0) -> None:
    """One token × channel surface, its tokens counted from `first`; large maps are pooled to their most extreme values."""
    import numpy as np
    from matplotlib.patheffects import withStroke

    tokens, channels = values.shape
    at_token, at_channel, cells = pooled(values)
    x, y = np.meshgrid(at_channel, at_token + first)
    axes.plot_surface(
        x, y, cells, cmap=_tint(color), rcount=CELLS, ccount=CELLS, linewidth=0, antialiased=False, rasterized=True
    )
    size = np.abs(values)
    step = 0.07 * max(float(values.max() - values.min()), 1e-12)
    for channel in np.argsort(-size.max(0))[:PEAKS]:
        token = size[:, channel].argmax()
        value = float(values[token, channel])
        up = value > 0
        axes.plot(
            [channel],
            [first + token],
            [value + (step if up else -step) / 2],
            "v" if up else "^",
            color="#CC0000",
            markeredgecolor="white",
            markersize=5,
            zorder=10,
        )
        axes.text(
            channel,
            first + token,
            value + (step if up else -step),
            str(channel),
            color="#CC0000",
            fontsize=7,
            fontweight="bold",
            ha="center",
            va="bottom" if up else "top",
            zorder=11,
            path_effects=[withStroke(linewidth=1.8, foreground="white")],
        )
    axes.set(xlabel="channel", ylabel="token", xlim=(0, channels), ylim=(first, first + tokens))
    axes.set_box_aspect((1.3, 1, 0.8), zoom=1.02)
    axes.view_init(elev=24, azim=-60)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_tick_params(labelsize=6, pad=-3)
        axis.labelpad = -8
        axis.pane.fill = False
    axes.locator_params(nbins=4)


def pooled(values: "np.ndarray", cells: int = CELLS) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """A (tokens, channels) map as at most `cells` × `cells` cells, each with its most extreme value.

    Returns the middle token of each row, the middle channel of each column, and the cells.
    """
    import numpy as np

    edges = [np.linspace(0, n, min(n, cells) + 1).astype(int) for n in values.shape]
    middles = [(edge[:-1] + edge[1:] - 1) / 2 for edge in edges]
    high, low = (
        extreme.reduceat(extreme.reduceat(values, edges[0][:-1], 0), edges[1][:-1], 1)
        for extreme in (np.maximum, np.minimum)
    )
    return middles[0], middles[1], np.where(high > -low, high, low)


def _tint(color: str) -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("tint", ["#f4f4f4", color, "#111111"])


def main() -> None:
    """The command `python -m analysis.featuremaps`."""
    chosen = options(FeaturemapOptions, __doc__ or "")
    output, drawing = paths(chosen, "featuremaps")
    dataset = load_one_by_one(
        chosen, output, lambda model, source: feature_maps(model, source, chosen.layers or None, chosen.image_size)
    )
    if "feature_map" not in dataset:
        raise UserError(f"{chosen.data} has no feature maps: write it with python -m analysis.featuremaps.")
    rows = peaks(dataset.feature_map)
    print(f"channels with the largest absolute entry [model units], {len(dataset.image)} images, all tokens")
    print(
        rows[rows["rank"] == 1].drop(columns="rank").to_string(index=False, float_format=lambda value: f"{value:.4g}")
    )
    announce(
        dataset, with_origin(rows, dataset), figure(dataset, chosen.tokens), output, drawing, new=chosen.data is None
    )


if __name__ == "__main__":
    run(main)
