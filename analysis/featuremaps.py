"""What does a feature map look like? Token × channel surfaces of X_res, X_attn, X_sum, peaks marked (paper Fig. 9).

    python -m analysis.featuremaps --model clip_vitb16 --layers 12 --limit 2

The Dataset holds the whole maps (image, layer, feature, token, channel), so name few pictures and layers; by default
it is two pictures and the last layer.
"""

from dataclasses import dataclass

from analysis.commands import Options, announce, load_one_by_one, paths, with_origin
from clearclip.cli import options, run
from clearclip.errors import UserError


@dataclass(frozen=True)
class FeaturemapOptions(Options):
    """Which model, which pictures, which layers, and where the results go."""

    limit: int | None = 2
    """Only the first so many pictures."""


def main() -> None:
    """The command `python -m analysis.featuremaps`."""
    chosen = options(FeaturemapOptions, __doc__ or "")
    from analysis import plots
    from analysis.probes.feature_maps import feature_maps, peaks

    output, drawing = paths(chosen, "featuremaps")
    dataset = load_one_by_one(
        chosen, output, lambda model, source: feature_maps(model, source, chosen.layers or None, chosen.image_size)
    )
    if "feature_map" not in dataset:
        raise UserError(f"{chosen.data} has no feature maps: write it with python -m analysis.featuremaps.")
    rows = peaks(dataset.feature_map)
    print(f"channels with the largest absolute entry [model units], {len(dataset.image)} images, all tokens")
    print(
        rows[rows["rank"] == 1].drop(columns="rank").to_string(index=False, float_format=lambda value: f"{value:.4g}")
    )
    announce(
        dataset,
        with_origin(rows, dataset),
        plots.feature_maps(dataset, chosen.tokens),
        output,
        drawing,
        new=chosen.data is None,
    )


if __name__ == "__main__":
    run(main)
