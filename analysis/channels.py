"""Is a feature map carried by a few channels? Channel means, normalised and sorted (paper Fig. 4c).

    python -m analysis.channels --model clip_vitb16 dino_vitb16 --normalization minmax

The table gives the share of the absolute mass that lies in the 5 strongest channels.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from analysis.commands import Options, statistics_command
from clearclip.cli import options, run

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ChannelOptions(Options):
    """Which models, which pictures, how the means are normalised, and where the results go."""

    normalization: Literal["minmax", "max", "none"] = "minmax"
    """How the channel means of one image are normalised before they are averaged; the paper does not say."""


def figure(dataset: "xr.Dataset", tokens: str = "patches") -> "Figure":
    """Fig. 4c: sorted channel means against the channel's rank; a row a model, a column a feature, a colour a layer."""
    import matplotlib as mpl
    import numpy as np

    from analysis.plots import lines as plot

    models, features = dataset.model.values.tolist(), dataset.feature.values.tolist()
    layers = dataset.layer.values.tolist()
    colors = mpl.colors.LinearSegmentedColormap.from_list(
        "layers", mpl.colormaps["viridis_r"](np.linspace(0.08, 1, 256))
    )
    scale = mpl.colors.Normalize(min(layers), max(max(layers), min(layers) + 1))
    values = dataset.channel_mean_sorted.sel(tokens=tokens)
    with plot.style():
        shown, axes = plot.panels(len(features), rows=len(models), height=1.75, sharex=True, sharey="row")
        for row, model in zip(axes, models, strict=True):
            for panel, feature in zip(row, features, strict=True):
                for layer in layers:
                    line = values.sel(model=model, feature=feature, layer=layer).dropna("channel").values
                    rank = np.linspace(0, 100, len(line))
                    panel.plot(rank, line, color=colors(scale(layer)), linewidth=1.1, label=f"layer {layer}")
                panel.set_xlim(0, 100)
            random = bool(dataset.random_weights.sel(model=model))
            row[0].set_ylabel(
                f"{model}{', random weights' if random else ''}\n{_short(values)}",
                color=plot.WARNING_COLOR if random else "black",
            )
        for panel, feature in zip(axes[0], features, strict=True):
            panel.set_title(plot.FEATURE_LABEL[feature])
        for panel in axes[-1]:
            panel.set_xlabel("channel rank (%)")
        bar = shown.colorbar(mpl.cm.ScalarMappable(scale, colors), ax=axes, label="layer", aspect=30, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(nbins=6, integer=True))
        plot.caption(shown, dataset, tokens)
    return shown


def _short(values: "xr.DataArray") -> str:
    name = values.attrs["long_name"]
    return (
        "min–max norm. mean" if "min–max" in name else "mean / largest" if "largest" in name else "mean (model units)"
    )


def main() -> None:
    """The command `python -m analysis.channels`."""
    chosen = options(ChannelOptions, __doc__ or "")
    from analysis.probes.statistics import STATISTICS, channel_statistics

    statistics = {"channel_dominance": STATISTICS["channel_dominance"], **channel_statistics(chosen.normalization)}
    statistics_command(
        chosen, "channels", statistics, "channel_dominance", lambda dataset: figure(dataset, chosen.tokens)
    )


if __name__ == "__main__":
    run(main)
