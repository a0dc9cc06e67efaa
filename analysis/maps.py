"""What do recipes and feature maps make of the same pictures? Label maps beside photo and truth (paper Figs. 1, 3, 7, 10, 11).

    python -m analysis.maps --model clip_vitb16 --dataset coco_stuff:data/coco --recipe clip maskclip sclip clearclip
    python -m analysis.maps --model clip_vitb16 --images my/photos --classes "horse, grass, sky"

All recipes of a picture share one pass through the model. The Dataset holds pictures and label maps, with a long side of
512 pixels at most, so name few pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clearclip.cli import options, run
from clearclip.errors import UserError
from clearclip.models.loaders import loaders

if TYPE_CHECKING:
    import xarray as xr

    from clearclip.datasets.base import Sample

SCENE_SIZE = 192


@dataclass(frozen=True)
class MapsOptions:
    """Which model, which pictures, which recipes, and where the results go."""

    model: tuple[str, ...] = ("clip_tiny",)
    """One or several CLIPs, such as clip_vitb16; by default the small one that comes with the package."""
    checkpoint: tuple[Path, ...] = ()
    """Local weights (safetensors or weights-only .pt) instead of the hub's, one file for each model, - for none."""
    random: bool = False
    """Random weights, for a trial without any; every result says so."""
    dataset: str = "scenes"
    """A data set and its folder, such as coco_stuff:data/coco, or scenes and scenes_background, which are drawn."""
    images: tuple[str, ...] = ()
    """Photos or folders of them instead of a data set; they have no true labels."""
    classes: str = ""
    """With --images, the classes: "horse, grass, sky"; names of one class are joined with |."""
    recipe: tuple[str, ...] = ()
    """Recipes by name, and X_sum, X_res or X_attn for a feature map of the last block; by default clip, maskclip, sclip,
    clearclip and the three feature maps."""
    first: int = 0
    """The first picture of the data set that is used, counted from 0."""
    limit: int = 4
    """How many pictures."""
    batch_size: int = 8
    """Windows in one forward pass."""
    device: str | None = None
    """cpu, cuda, mps, …; by default the accelerator if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32, or autocast to bf16 or fp16."""
    output: Path = Path("results/maps.nc")
    """The Dataset, a .nc file; the .csv goes beside it."""
    figure: Path | None = None
    """The figure, .png, .pdf or .svg; by default beside the Dataset."""
    data: Path | None = None
    """Draw an existing Dataset again, without running any model."""
    text_cache: Path | None = None
    """Where text embeddings are kept; by default clearclip/text in the user's cache folder."""
    strict: bool = False
    """Stop at the first picture that cannot be read, instead of naming and skipping it."""


def samples_of(chosen: MapsOptions) -> "tuple[list[Sample], list[str] | str]":
    """The pictures of a command, with their labels if they have any, and the classes."""
    from clearclip.pictures import BadImage

    if chosen.limit < 1 or chosen.first < 0:
        raise UserError(f"limit {chosen.limit} and first {chosen.first}: at least one picture, counted from 0.")
    found: list[Sample] = []
    source, classes = _photos(chosen) if chosen.images else _labelled(chosen)
    for read_one in source:
        try:
            found.append(read_one())
        except BadImage as error:
            if chosen.strict:
                raise UserError(f"{error} (refused because of strict)") from error
            print(f"skipped: {error}")
        if len(found) == chosen.limit:
            break
    if not found:
        raise UserError("not one picture could be used.")
    return found, classes


def _photos(chosen: MapsOptions) -> tuple[Iterator[Any], str]:
    """Photos without labels."""
    import numpy as np

    from analysis.probes.images import pictures
    from clearclip.datasets.base import Sample
    from clearclip.segmentation.text import class_names

    class_names(chosen.classes)
    none = np.zeros((0, 0), np.uint8)
    listed = pictures(chosen.images)[chosen.first :]
    return ((lambda one=one: Sample(one.read(), none, one.name)) for one in listed), chosen.classes


def _labelled(chosen: MapsOptions) -> tuple[Iterator[Any], list[str]]:
    """The pairs of a data set."""
    from clearclip.datasets import DRAWN, load, parse

    if chosen.classes:
        raise UserError("--classes goes with --images; a data set has its own.")
    # scenes are the same at every size, and drawn finer for the eye than for statistics
    drawn = chosen.dataset in DRAWN
    dataset = load(chosen.dataset, split="test", size=SCENE_SIZE) if drawn else parse(chosen.dataset)
    if chosen.first >= len(dataset):
        raise UserError(f"first {chosen.first}: {dataset.name} has {len(dataset)} pictures.")
    return ((lambda i=i: dataset[i]) for i in range(chosen.first, len(dataset))), list(dataset.classes)


def main() -> None:
    """The command `python -m analysis.maps`."""
    chosen = options(MapsOptions, __doc__ or "")
    from analysis import plots
    from analysis.plots.label_pictures import heading
    from analysis.probes.label_maps import RECIPES, accuracy_table, read, recipes_of
    from clearclip.runs import results
    from clearclip.segmentation import style

    output = chosen.data or chosen.output
    if output.suffix != ".nc":
        raise UserError(f"{output}: the Dataset is written as NetCDF, so name a .nc file.")
    drawing = chosen.figure or output.with_suffix(".png")
    style.check_suffix(drawing)
    recipes_of(chosen.recipe or RECIPES)
    dataset = read(chosen.data) if chosen.data is not None else _measured(chosen)
    for model in dataset.model.values.tolist():
        print(heading(dataset, model)[0])
    table = accuracy_table(dataset)
    if table is not None:
        print("pixel accuracy [%]")
        print(table.to_string(float_format=lambda value: f"{value:.1f}", na_rep=""))
    written = []
    if chosen.data is None:
        results.write(dataset, output)
        written.append(output)
        if table is not None:
            written.append(output.with_suffix(".csv"))
            table.to_csv(written[-1])
    style.save(plots.label_maps(dataset), drawing)
    print("wrote " + ", ".join(map(str, [*written, drawing])))


def _measured(chosen: MapsOptions) -> "xr.Dataset":
    """The Dataset over all models."""
    import xarray as xr

    from analysis.probes.label_maps import RECIPES, label_maps
    from clearclip.segmentation.text import default_cache

    every = loaders(chosen.model, chosen.checkpoint, chosen.random, chosen.device, chosen.precision)
    samples, classes = samples_of(chosen)
    cache = chosen.text_cache or default_cache()
    recipes = chosen.recipe or RECIPES
    found = [label_maps(load(), samples, classes, recipes, chosen.batch_size, cache) for load in every]
    dataset = xr.concat(
        found, "model", data_vars="minimal", coords="minimal", compat="override", combine_attrs="override"
    )
    dataset.attrs["dataset"] = "" if chosen.images else chosen.dataset.partition(":")[0]
    return dataset


if __name__ == "__main__":
    run(main)
