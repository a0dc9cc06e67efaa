"""From which layer on do patches speak the language of the text? mIoU of X_res, X_attn and X_sum of every layer.

    python -m analysis.layers --model clip_vitb16 --dataset voc20:data/voc

A "logit lens" for patches: each map goes through the final norm and the projection as if it were the last one (paper Fig. 3
for every layer).
"""

from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run


def main() -> None:
    """The command `python -m analysis.layers`."""
    chosen = options(SweepOptions, __doc__ or "")
    from analysis import plots
    from analysis.sweeps import recipe_lists, table

    sweep_command(chosen, "layers", recipe_lists.layers, plots.layers, table.layers)


if __name__ == "__main__":
    run(main)
