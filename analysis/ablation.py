"""What do residual connection, FFN and kind of attention do in the last block? (Paper Table 1, Figs. 5 and 8)

    python -m analysis.ablation --model clip_vitb16 --dataset voc20:data/voc

Every attention (qk, qq, kk, vv, identity) with the block as it is, without residual (-RC), without FFN (-FFN), without both.
"""

from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run


def main() -> None:
    """The command `python -m analysis.ablation`."""
    chosen = options(SweepOptions, __doc__ or "")
    from analysis import plots
    from analysis.sweeps import recipe_lists

    sweep_command(chosen, "ablation", recipe_lists.ablation(), plots.ablation)


if __name__ == "__main__":
    run(main)
