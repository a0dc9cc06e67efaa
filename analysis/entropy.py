"""How evenly are the values of a feature map spread? Normalised entropy per layer (paper eq. 5, Fig. 4a).

python -m analysis.entropy --model clip_vitb16 dino_vitb16
"""

from typing import TYPE_CHECKING

from analysis.commands import Options, statistics_command
from clearclip.cli import options, run

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def figure(dataset: "xr.Dataset", tokens: str = "patches") -> "Figure":
    """Fig. 4a: entropy of X_res, X_attn, X_sum against the layer, one panel a model."""
    from analysis.plots.lines import layers_figure

    return layers_figure(dataset, "entropy", tokens, limits=(-0.03, 1.05))


def main() -> None:
    """The command `python -m analysis.entropy`."""
    chosen = options(Options, __doc__ or "")
    from analysis.probes.statistics import FIGURE_4

    statistics_command(chosen, "entropy", FIGURE_4, "entropy", lambda dataset: figure(dataset, chosen.tokens))


if __name__ == "__main__":
    run(main)
