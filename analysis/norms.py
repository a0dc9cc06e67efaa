"""How strong are residual and attention output beside each other? Frobenius norm per layer (the bars of paper Fig. 2).

python -m analysis.norms --model clip_vitb16 clip_vitl14
"""

from typing import TYPE_CHECKING

from analysis.command import Options, statistics_command
from clearclip.cli import options, run

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def figure(dataset: "xr.Dataset", tokens: str = "patches") -> "Figure":
    """The Frobenius norm of X_res, X_attn, X_sum against the layer, one panel a model, logarithmic."""
    from analysis.plot import layers_figure

    return layers_figure(dataset, "frobenius_norm", tokens, scale="log")


def main() -> None:
    """The command `python -m analysis.norms`."""
    chosen = options(Options, __doc__ or "")
    from analysis.statistics import FIGURE_4

    statistics_command(chosen, "norms", FIGURE_4, "frobenius_norm", lambda dataset: figure(dataset, chosen.tokens))


if __name__ == "__main__":
    run(main)
