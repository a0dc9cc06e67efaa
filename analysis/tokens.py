"""Do tokens stand out, and do they point the same way? Outlier tokens, channel dominance, effective rank, mean cosine.

    python -m analysis.tokens --model dinov2_vitb14 dinov2_vitb14_reg clip_vitb16

A token is an outlier if its norm is over three times the median norm of its map. The maps show where in the picture
the tokens are long, averaged over the images.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.commands import Options, statistics_command
from clearclip.cli import options, run
from clearclip.errors import UserError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {
    "norm_ratio": "largest norm\nover median",
    "outlier_share": "share of\noutlier tokens",
    "channel_dominance": "mass in the 5\ntop channels",
    "effective_rank": "effective\nrank",
    "mean_cosine": "mean cosine\nof tokens",
}


@dataclass(frozen=True)
class TokenOptions(Options):
    """Which models, which pictures, which layer is mapped, and where the results go."""

    map_layer: int | None = None
    """The layer whose token norms are drawn as a map; by default the last."""


def figure(dataset: "xr.Dataset", tokens: str = "patches", map_layer: int | None = None) -> "Figure":
    """Five statistics of the tokens against the layer, one column a model, above the mean norm of its tokens as a map.

    Raises `UserError` if the Dataset lacks one of the statistics or the layer to map.
    """
    from analysis.plots import lines as plot

    missing = [name for name in (*LINES, "token_norm") if name not in dataset]
    if missing:
        raise UserError(f"this Dataset has no {', '.join(missing)}: write it with python -m analysis.tokens.")
    models, layers = dataset.model.values.tolist(), dataset.layer.values.tolist()
    if map_layer is not None and map_layer not in layers:
        raise UserError(f"map layer {map_layer}: the Dataset has layers {layers[0]} … {layers[-1]}.")
    with plot.style():
        shown, axes = plot.panels(
            len(models), rows=len(LINES) + 1, height=1.2, gridspec_kw={"height_ratios": [1] * len(LINES) + [1.5]}
        )
        for row, (name, label) in zip(axes, LINES.items(), strict=False):
            for panel, model in zip(row, models, strict=True):
                panel.sharey(row[0])
                plot.draw_layers(panel, dataset[name].sel(model=model, tokens=tokens))
                panel.set_xlabel("")
            if name in ("outlier_share", "channel_dominance"):
                row[0].set_ylim(bottom=0)
            row[0].set_ylabel(label)
        for panel, below, model in zip(axes[-2], axes[-1], models, strict=True):
            panel.set_xlabel("layer")
            _draw_map(below, dataset.sel(model=model), map_layer)
        for panel, model in zip(axes[0], models, strict=True):
            plot.title(panel, dataset, model)
        plot.legend(shown, axes[0, 0])
        shown.align_ylabels(axes[:-1, 0])
        plot.caption(shown, dataset, tokens, "band: 80 % of the images" if dataset.attrs["images"] > 1 else "")
    return shown


def _draw_map(axes: "Axes", dataset: "xr.Dataset", map_layer: int | None) -> None:
    """Mean norm of X_sum's patch tokens where they lie in the picture."""
    from analysis.plots.lines import FEATURE_LABEL

    rows, columns, prefix = int(dataset.rows), int(dataset.columns), int(dataset.prefix_tokens)
    feature = "X_sum" if "X_sum" in dataset.feature else str(dataset.feature.values[-1])
    values = dataset.token_norm.sel(feature=feature, tokens="patches").dropna("layer", how="all")
    layer = int(values.layer[-1]) if map_layer is None else map_layer
    norms = values.sel(layer=layer).values[prefix : prefix + rows * columns].reshape(rows, columns)
    image = axes.imshow(norms, cmap="cividis")
    axes.set(xticks=[], yticks=[], title=f"token norm, {FEATURE_LABEL[feature]}, layer {layer}")
    axes.title.set_fontweight("normal")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.get_figure().colorbar(image, ax=axes, shrink=0.9, panchor=False).outline.set_visible(False)  # type: ignore[union-attr]


def main() -> None:
    """The command `python -m analysis.tokens`."""
    chosen = options(TokenOptions, __doc__ or "")
    if chosen.map_layer is not None and chosen.layers and chosen.map_layer not in chosen.layers:
        raise UserError(f"map layer {chosen.map_layer} is not among the layers {chosen.layers} that are measured.")
    from analysis.probes.statistics import TOKENS

    statistics_command(
        chosen, "tokens", TOKENS, "norm_ratio", lambda dataset: figure(dataset, chosen.tokens, chosen.map_layer)
    )


if __name__ == "__main__":
    run(main)
