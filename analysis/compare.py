"""How do the methods compare, and do they reach the published numbers? (Paper Tables 2, 3 and 5)

    python -m analysis.compare --model clip_vitb16 clip_vitl14 --dataset voc20:data/voc ade20k:data/ade

The table has measured and published mIoU of every method, and their difference.
"""

from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run


def main() -> None:
    """The command `python -m analysis.compare`."""
    chosen = options(SweepOptions, __doc__ or "")
    from analysis import plots
    from analysis.sweeps import recipe_lists, table

    sweep_command(chosen, "compare", recipe_lists.compare(), plots.compare, table.methods)


if __name__ == "__main__":
    run(main)
