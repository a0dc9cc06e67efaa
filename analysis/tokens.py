"""Do tokens stand out, and do they point the same way? Outlier tokens, channel dominance, effective rank, mean cosine.

    python -m analysis.tokens --model dinov2_vitb14 dinov2_vitb14_reg clip_vitb16

A token is an outlier if its norm is over three times the median norm of its map. The maps show where in the picture
the tokens are long, averaged over the images.
"""

from dataclasses import dataclass

from analysis.commands import Options, statistics_command
from clearclip.cli import options, run
from clearclip.errors import UserError


@dataclass(frozen=True)
class TokenOptions(Options):
    """Which models, which pictures, which layer is mapped, and where the results go."""

    map_layer: int | None = None
    """The layer whose token norms are drawn as a map; by default the last."""


def main() -> None:
    """The command `python -m analysis.tokens`."""
    chosen = options(TokenOptions, __doc__ or "")
    if chosen.map_layer is not None and chosen.layers and chosen.map_layer not in chosen.layers:
        raise UserError(f"map layer {chosen.map_layer} is not among the layers {chosen.layers} that are measured.")
    from analysis import plots
    from analysis.probes.statistics import TOKENS

    statistics_command(
        chosen, "tokens", TOKENS, "norm_ratio", lambda dataset: plots.tokens(dataset, chosen.tokens, chosen.map_layer)
    )


if __name__ == "__main__":
    run(main)
