"""Where does a token look? Attention maps of chosen layers and heads, from q-k, q-q, k-k or v-v products.

    python -m analysis.attention --model dino_vitb16 --layers 12 --affinity qk qq kk vv

Without --query the CLS token asks (the mean over all patches, where there is no CLS); --query ROW COLUMN asks a patch.
The library's fused attention stays on: the maps are computed beside it from the block's own q, k and v.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis import commands
from clearclip import cli
from clearclip.models.names import SHIPPED

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which model, which pictures, which layers, heads and products, and where the results go."""

    models: cli.Models = cli.Models(SHIPPED)
    pictures: commands.Pictures = commands.Pictures()
    layers: commands.Layers = commands.Layers()
    affinity: tuple[Literal["qk", "qq", "kk", "vv"], ...] = ("qk", "qq")
    """Which products: qk is the model's own attention, the others are self-self attention."""
    heads: tuple[int, ...] = ()
    """Only these heads, counted from 1; the figure shows the mean over the heads that are in the Dataset."""
    query: tuple[int, int] | None = None
    """Row and column (from 0) of the patch that asks; by default the CLS token does."""
    running: cli.Running = cli.Running(limit=3)
    result: cli.Result = cli.Result(Path("results/attention.nc"))
    drawing: commands.Drawing = commands.Drawing()


def run(options: Options) -> xr.Dataset:
    """Attention of the asking token over the patches of each picture."""
    from analysis.probes.attention import token_attention

    return commands.each_model(
        options,
        lambda model, pictures: token_attention(
            model,
            pictures,
            options.layers.layers,
            options.heads,
            options.affinity,
            options.query,
            options.pictures.image_size,
        ),
    )


def main() -> None:
    """The command `python -m analysis.attention`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.probes import attention, store
    from analysis.readings import maps

    commands.present(
        run,
        options,
        read=partial(store.read_maps, "attention"),
        report=attention.report,
        reading=maps.attention,
        rows=attention.tidy,
        draw=plots.attention,
    )


if __name__ == "__main__":
    cli.run(main)
