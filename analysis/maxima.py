"""How large does the largest entry of a feature map become? Maximum per layer (paper Fig. 4b).

python -m analysis.maxima --model clip_vitb16 dino_vitb16
"""

from typing import TYPE_CHECKING

from analysis.commands import Options, statistics_command
from clearclip.cli import options, run

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def figure(dataset: "xr.Dataset", tokens: str = "patches") -> "Figure":
    """Fig. 4b: the largest entry of X_res, X_attn, X_sum against the layer, one panel a model, logarithmic if positive."""
    from analysis.plots.lines import layers_figure

    return layers_figure(dataset, "maximum", tokens, scale="log")


def main() -> None:
    """The command `python -m analysis.maxima`."""
    chosen = options(Options, __doc__ or "")
    from analysis.probes.statistics import FIGURE_4

    statistics_command(chosen, "maxima", FIGURE_4, "maximum", lambda dataset: figure(dataset, chosen.tokens))


if __name__ == "__main__":
    run(main)
