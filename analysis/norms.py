"""How strong are residual and attention output beside each other? Frobenius norm per layer (paper Fig. 2).

    python -m analysis.norms --model clip_vitb16 clip_vitl14
    python -m analysis.norms --miou --model clip_vitb16 clip_vitl14 --dataset coco_stuff

With --miou: of the last block with each attention, beside the mIoU on labelled pictures (the whole of Fig. 2; its options
are those of the sweeps, see python -m analysis.norms --miou --help).
"""

import sys
from dataclasses import dataclass

from analysis.commands import Options, statistics_command
from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run


@dataclass(frozen=True)
class MiouOptions(SweepOptions):
    """Which models, which data sets, and where the results go."""

    miou: bool = False
    """Measure the norms of the last block with each attention, beside the mIoU; this help is about that."""


def main() -> None:
    """The command `python -m analysis.norms`."""
    if "--miou" in sys.argv:
        with_miou()
        return
    chosen = options(Options, __doc__ or "")
    from analysis import plots
    from analysis.probes.statistics import FIGURE_4

    statistics_command(chosen, "norms", FIGURE_4, "frobenius_norm", lambda dataset: plots.norms(dataset, chosen.tokens))


def with_miou() -> None:
    """The command with --miou: a sweep over attentions that also measures the norms."""
    chosen = options(MiouOptions, __doc__ or "")
    from analysis import plots
    from analysis.sweeps import recipe_lists

    sweep_command(chosen, "norms_miou", recipe_lists.norms(), plots.norms_and_miou, norms=True)


if __name__ == "__main__":
    run(main)
