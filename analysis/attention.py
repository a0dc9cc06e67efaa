"""Where does a token look? Attention maps of chosen layers and heads, from q-k, q-q, k-k or v-v products.

    python -m analysis.attention --model dino_vitb16 --layers 12 --affinity qk qq kk vv

Without --query the CLS token asks (the mean over all patches, where there is no CLS); --query ROW COLUMN asks a patch.
The library's fused attention stays on: the maps are computed beside it from the block's own q, k and v.
"""

from dataclasses import dataclass
from typing import Literal

from analysis.commands import Options, announce, load_one_by_one, paths, with_origin
from clearclip.cli import options, run
from clearclip.errors import UserError


@dataclass(frozen=True)
class AttentionOptions(Options):
    """Which model, which pictures, which layers, heads and products, and where the results go."""

    limit: int | None = 3
    """Only the first so many pictures."""
    affinity: tuple[Literal["qk", "qq", "kk", "vv"], ...] = ("qk", "qq")
    """Which products: qk is the model's own attention, the others are self-self attention."""
    heads: tuple[int, ...] = ()
    """Only these heads, counted from 1; the figure shows the mean over the heads that are in the Dataset."""
    query: tuple[int, int] | None = None
    """Row and column (from 0) of the patch that asks; by default the CLS token does."""


def main() -> None:
    """The command `python -m analysis.attention`."""
    chosen = options(AttentionOptions, __doc__ or "")
    from analysis import plots
    from analysis.probes.attention import patches_covered, token_attention

    output, drawing = paths(chosen, "attention")
    dataset = load_one_by_one(
        chosen,
        output,
        lambda model, source: token_attention(
            model, source, chosen.layers, chosen.heads, chosen.affinity, chosen.query, chosen.image_size
        ),
    )
    if "attention" not in dataset:
        raise UserError(f"{chosen.data} has no attention maps: write it with python -m analysis.attention.")
    covered = patches_covered(dataset)
    table = covered.mean(("image", "head")).stack(column=("model", "affinity")).to_pandas()
    print(
        f"patches that the attention covers (exp of its entropy), mean over images and heads, {dataset.sizes['image']} images"
    )
    print(table.to_string(float_format=lambda value: f"{value:.4g}", na_rep=""))
    rows = covered.reset_coords(drop=True).to_dataframe().reset_index().dropna(subset="patches_covered")
    announce(dataset, with_origin(rows, dataset), plots.attention(dataset), output, drawing, new=chosen.data is None)


if __name__ == "__main__":
    run(main)
