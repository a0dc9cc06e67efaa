"""Are these the published models? Expected numbers beside measured ones, each with its tolerance and source.

    python -m clearclip.verify clip_vitb16 clip_vitb32 --pictures my/reference
    python -m clearclip.verify --all

Only weights are downloaded. A row whose pictures are not in the folder that --pictures names is skipped by name. The exit
code is 0 if all rows that could be measured agree, 1 if one disagrees or a model could not be loaded, and 2 for a mistake on the
command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from clearclip import cli
from clearclip.errors import UserError


@dataclass(frozen=True)
class Options:
    """Which models, which pictures, and where the report goes."""

    model: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Models, such as clip_vitb16 or mine=clip_vitb16:mine.safetensors. Published numbers are known for some; of any other
    model its own consistency is measured."""
    all: bool = False
    """All models that published numbers are known of, one in memory at a time."""
    pictures: Path | None = None
    """A folder with the published pictures under their own names, searched recursively."""
    imagenet: Path | None = None
    """The folder of ImageNet's validation pictures, one folder for each class."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps, …; by default the accelerator if there is one."""
    output: Path = Path("results/verify.json")
    """The report, a .json file. The same as Markdown goes beside it."""


def main() -> int:
    """The command `python -m clearclip.verify`."""
    options = cli.parse(Options, __doc__)
    from clearclip.models.load import loaders
    from clearclip.models.named import all_named
    from clearclip.runs.results import about_model
    from clearclip.verification import expectations, report
    from clearclip.verification.pictures import Pictures
    from clearclip.verification.run import failed, not_loaded, verify

    if bool(options.model) == options.all:
        raise UserError(f"name models, or --all for {', '.join(expectations.models())}.")
    if options.output.suffix != ".json":
        raise UserError(f"{options.output}: the report is written as JSON, so name a .json file.")
    for folder in (options.pictures, options.imagenet):
        if folder is not None and not folder.is_dir():
            raise UserError(f"{folder}: no such folder.")
    names = expectations.models() if options.all else options.model
    pictures = Pictures(options.pictures, options.imagenet)
    rows, about = [], {}
    for named, load in zip(all_named(names), loaders(names, (), False, options.device, "fp32"), strict=True):
        try:
            model = load()
        except UserError as error:
            part = [not_loaded(named.label, error)]
        else:
            part, about[named.label] = verify(model, pictures), about_model(model)
            del model  # before the next one is loaded
        print(report.text(part))
        rows += part
    print(f"wrote {', '.join(map(str, report.write(rows, about, options.output)))}")
    return int(failed(rows))


if __name__ == "__main__":
    cli.run(main)
