"""Can I have the tokens themselves, for a sparse autoencoder of my own? X_res, X_attn, X_sum as safetensors shards.

    python -m analysis.export --model clip_vitb16 --images my/photos --layers 6 12 --features X_res X_sum --output results/features

Shards are of bounded size, and only one is held in memory. A protocol beside them says what they hold, and
analysis.TokenShards reads them in PyTorch. An interrupted export goes on with the same command.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from analysis import commands
from clearclip import cli
from clearclip.commands import about_shipped, command_line
from clearclip.errors import UserError


@dataclass(frozen=True)
class Shards:
    """What is written, and where."""

    features: tuple[Literal["X_res", "X_attn", "X_sum"], ...] = ("X_sum",)
    """Which maps."""
    tokens: Literal["patches", "all"] = "patches"
    """Which tokens: patches, or all with CLS and registers."""
    dtype: cli.Precision = "fp32"
    """The numbers on disk."""
    shard_tokens: int = 65536
    """At most so many tokens in one shard; a shard is held in memory until it is written."""
    output: Path = Path("results/features")
    """The folder for the shards, protocol.json, protocol.md and pictures.csv."""
    restart: bool = False
    """Set aside what another export has left in the folder, and start anew."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which model, which pictures, which layers (by default the last) and maps, and where the shards go."""

    models: cli.Models = cli.Models(("clip_tiny",))
    pictures: commands.Pictures = commands.Pictures()
    layers: commands.Layers = commands.Layers()
    shards: Shards = Shards()
    running: cli.Running = cli.Running()


def run(options: Options) -> dict[str, Any]:
    """The protocol of the shards, which are written."""
    from analysis.shards.protocol import JSON
    from analysis.shards.writing import export_tokens
    from clearclip.outputs import refuse_unwritable

    shards, running = options.shards, options.running
    refuse_unwritable(shards.output / JSON)
    load, *others = cli.loaders(options.models, running)
    if others:
        raise UserError(
            f"{len(others) + 1} models are named: tokens of one are exported at a time, so give each its own command and --output."
        )
    return export_tokens(
        load(),
        commands.listed(options.models, options.pictures, running),
        shards.output,
        layers=options.layers.layers,
        features=shards.features,
        tokens=shards.tokens,
        dtype=shards.dtype,
        shard_tokens=shards.shard_tokens,
        image_size=options.pictures.image_size,
        batch_size=running.batch_size,
        strict=running.strict,
        restart=shards.restart,
        command=command_line(run, options),
    )


def main() -> None:
    """The command `python -m analysis.export`."""
    options = cli.parse(Options, __doc__)
    from clearclip.runs.results import shipped_name
    from clearclip.words import counted

    about = run(options)
    sites = ", ".join(f"{feature} of layer {layer}" for layer in about["layers"] for feature in about["features"])
    size = sum(shard["bytes"] for shard in about["shards"])
    print(
        f"{about['length']:,} tokens ({about['tokens']}) of {about['images']:,} pictures × {about['width']} channels: {sites}\n"
        f"{about['dtype']}, {size / 1e6:,.1f} MB in {counted(len(about['shards']), 'shard')}"
    )
    if about["random_weights"]:
        print(f"{about['model']}: RANDOM WEIGHTS, the tokens say nothing about a trained model")
    if name := shipped_name(about["architecture"], about["weights"]):
        print(about_shipped(about["model"], name))
    if about["skipped"]:
        print(f"skipped {counted(len(about['skipped']), 'picture')} that could not be used")
    folder = options.shards.output
    print(f"{folder} holds them, with protocol.json, protocol.md and pictures.csv")
    print(
        f'read them with analysis.TokenShards("{folder.as_posix()}", layer={about["layers"][-1]}, '
        f'feature="{about["features"][-1]}")'
    )


if __name__ == "__main__":
    cli.run(main)
