"""How large does the largest entry of a feature map become? Maximum per layer (paper Fig. 4b).

python -m analysis.maxima --model clip_vitb16 dino_vitb16
"""

from analysis.commands import Options, statistics_command
from clearclip.cli import options, run


def main() -> None:
    """The command `python -m analysis.maxima`."""
    chosen = options(Options, __doc__ or "")
    from analysis import plots
    from analysis.probes.statistics import FIGURE_4

    statistics_command(chosen, "maxima", FIGURE_4, "maximum", lambda dataset: plots.maxima(dataset, chosen.tokens))


if __name__ == "__main__":
    run(main)
