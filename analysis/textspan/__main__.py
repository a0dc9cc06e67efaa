"""What does an attention head say, in words? The texts of a pool along which its contribution to the image features varies most.

    python -m analysis.textspan --model clip_vitb16 --images my/photos --layers 9 10 11 12 --count 5

TextSpan (Gandelsman, Efros and Steinhardt, ICLR 2024): what a head adds to the feature of CLS, or with --tokens patches to those
of all patches, is taken behind the final norm and the projection, for many pictures; the text whose direction explains most of
its variance is taken, its direction is removed, and so on. Early layers act on the feature mostly through later ones, which this
does not see. Ctrl-C loses nothing: the same command continues.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis import commands
from clearclip import cli

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which models, which pictures, which heads and texts, and where the results go."""

    models: cli.Models = cli.Models(("clip_tiny",))
    pictures: commands.Pictures = commands.Pictures()
    layers: commands.Layers = commands.Layers()
    heads: tuple[int, ...] = ()
    """Only these heads, counted from 1."""
    tokens: Literal["cls", "patches"] = "cls"
    """What the heads add to: the CLS token of every picture, or all its patches."""
    texts: str | None = None
    """The pool of texts: general (256 short descriptions that come with the toolkit), scenes (what is in drawn scenes), or a text
    file with one text per line; by default scenes for clip_tiny, general for other models."""
    count: int = 5
    """How many texts for each head."""
    text_cache: Path | None = None
    """Where text embeddings are kept; by default clearclip/text in the user's cache folder."""
    running: cli.Running = cli.Running()
    result: cli.Result = cli.Result(Path("results/textspan.nc"))
    drawing: commands.Drawing = commands.Drawing()


def run(options: Options) -> xr.Dataset:
    """Texts and variances of every head."""
    from analysis.textspan.run import measure_models
    from clearclip.segmentation.text import default_cache

    running = options.running
    return measure_models(
        cli.loaders(options.models, running),
        _pictures(options),
        cli.dataset_file(options.result),
        texts=options.texts,
        layers=options.layers.layers or None,
        heads=options.heads or None,
        tokens=options.tokens,
        count=options.count,
        image_size=options.pictures.image_size,
        batch_size=running.batch_size,
        strict=running.strict,
        cache=options.text_cache or default_cache(),
    )


def main() -> None:
    """The command `python -m analysis.textspan`."""
    options = cli.parse(Options, __doc__)
    from analysis import plots
    from analysis.readings.textspan import reading
    from analysis.textspan import table
    from clearclip.entries import digest_now

    commands.present(
        run,
        options,
        read=table.read,
        report=table.report,
        reading=reading,
        rows=table.tidy,
        draw={"texts": plots.textspan, "share": plots.textspan_share},
        same_pictures=lambda dataset: dataset.attrs["image_list_sha256"] == digest_now(_pictures(options)),
    )


def _pictures(options: Options) -> list:
    """The pictures that were named; by default scenes for the model that was trained on them, otherwise photographs."""
    from analysis.probes.images import pictures

    default = ("scenes",) if options.models == Options().models else ("photographs",)
    return pictures(options.pictures.images or default, options.running.limit)


if __name__ == "__main__":
    cli.run(main)
