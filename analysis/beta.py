"""Is it the few strong channels of the residual that hurt? The top β of them removed, or X_res normalised (paper Table 4).

    python -m analysis.beta --model clip_vitb16 --dataset voc20:data/voc

q-q attention, FFN off; β is the share of the channels of X_res that are set to 0, those of the highest mean.
"""

from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run


def main() -> None:
    """The command `python -m analysis.beta`."""
    chosen = options(SweepOptions, __doc__ or "")
    from analysis import plots
    from analysis.sweeps import recipe_lists

    sweep_command(chosen, "beta", recipe_lists.beta(), plots.beta)


if __name__ == "__main__":
    run(main)
