"""How does the last block's attention output have to be weighed against its residual? X_res + α·X_attn (paper Fig. 6).

    python -m analysis.alpha --model clip_vitb16 --dataset voc20:data/voc

Every attention (qk, qq, kk, vv, identity) with α from 0.1 to 100; the FFN is off.
"""

from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run


def main() -> None:
    """The command `python -m analysis.alpha`."""
    chosen = options(SweepOptions, __doc__ or "")
    from analysis import plots
    from analysis.sweeps import recipe_lists

    sweep_command(chosen, "alpha", recipe_lists.alpha(), plots.alpha)


if __name__ == "__main__":
    run(main)
