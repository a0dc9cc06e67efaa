"""How evenly are the values of a feature map spread? Normalised entropy per layer (paper eq. 5, Fig. 4a).

python -m analysis.entropy --model clip_vitb16 dino_vitb16
"""

from analysis.commands import Options, statistics_command
from clearclip.cli import options, run


def main() -> None:
    """The command `python -m analysis.entropy`."""
    chosen = options(Options, __doc__ or "")
    from analysis import plots
    from analysis.probes.statistics import FIGURE_4

    statistics_command(chosen, "entropy", FIGURE_4, "entropy", lambda dataset: plots.entropy(dataset, chosen.tokens))


if __name__ == "__main__":
    run(main)
