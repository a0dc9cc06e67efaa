"""What the commands share: their options, and the way from options to Dataset, table and figure."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clearclip.errors import UserError
from clearclip.models.loaders import loaders
from clearclip.models.names import SHIPPED

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from analysis.probes.images import Picture
    from clearclip.models.backbone import Backbone


@dataclass(frozen=True)
class Options:
    """Which models, which pictures, and where the results go."""

    model: tuple[str, ...] = ()
    """One or several models, such as dino_vitb16 clip_vitb16, timm:<arch.tag> or open_clip:<arch>/<tag>; by default the two
    small ones that come with the package, clip_tiny and dino_tiny."""
    checkpoint: tuple[Path, ...] = ()
    """Local weights (safetensors or weights-only .pt) instead of the hub's, one file for each model, - for none."""
    random: bool = False
    """Random weights, for a trial without any; every result says so."""
    images: tuple[str, ...] = ()
    """Folders of pictures (searched recursively), single files, a benchmark such as voc21:data/voc, photographs
    (scikit-image's) or scenes (drawn); by default photographs, and both for the two default models."""
    limit: int | None = None
    """Only the first so many pictures."""
    image_size: int | None = None
    """Side in pixels; by default the weights' own. 448 is the segmentation protocol's."""
    layers: tuple[int, ...] = ()
    """Only these layers, counted from 1 as in the paper."""
    batch_size: int = 8
    """Pictures in one forward pass."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps, …; by default the accelerator if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32, or autocast to bf16 or fp16."""
    tokens: Literal["patches", "all"] = "patches"
    """Which tokens the table and the figure show (the Dataset has both): patches, or all with CLS and registers."""
    output: Path | None = None
    """The Dataset, a .nc file; by default results/<command>.nc. The .csv goes beside it."""
    figure: Path | None = None
    """The figure, .png, .pdf or .svg; by default beside the Dataset."""
    data: Path | None = None
    """Draw an existing Dataset again, without running any model."""
    strict: bool = False
    """Stop at the first picture that cannot be read, instead of naming, counting and skipping it."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that were named, or the two that come with the package."""
        return self.model or SHIPPED

    @property
    def sources(self) -> tuple[str, ...]:
        """The pictures that were named, or the default ones."""
        return self.images or (("photographs",) if self.model else ("photographs", "scenes"))


def models(chosen: Options) -> "list[Callable[[], Backbone]]":
    """One loader for each model that was named."""
    return loaders(chosen.models, chosen.checkpoint, chosen.random, chosen.device, chosen.precision)


def paths(chosen: Options, command: str) -> tuple[Path, Path]:
    """Where the Dataset and the figure go."""
    from clearclip.segmentation.style import check_suffix

    output = chosen.output or chosen.data or Path("results", f"{command}.nc")
    if output.suffix != ".nc":
        raise UserError(f"{output}: the Dataset is written as NetCDF, so name a .nc file.")
    figure = chosen.figure or output.with_suffix(".png")
    check_suffix(figure)
    return output, figure


def statistics_command(
    chosen: Options,
    command: str,
    statistics: Any,
    shown: str,
    draw: "Callable[[xr.Dataset], Figure]",
) -> None:
    """The way of most commands: collect over all models, print the table of `shown`, write Dataset, csv and figure."""
    output, figure = paths(chosen, command)
    if chosen.data is not None:
        from analysis.probes import store

        dataset = store.read(chosen.data)
        if shown not in dataset:
            raise UserError(f"{chosen.data} has no {shown}; it has {', '.join(map(str, dataset.data_vars))}.")
    else:
        dataset = collect_all(chosen, statistics, output)
    print_table(dataset, shown, chosen.tokens)
    announce(dataset, tidy(dataset), draw(dataset), output, figure, new=chosen.data is None)


def collect_all(chosen: Options, statistics: Any, output: Path) -> "xr.Dataset":
    """One Dataset over all models; the runs of finished models are kept until the last one is done."""
    from analysis.probes import store
    from analysis.probes.collection import collect
    from analysis.probes.images import pictures
    from clearclip.runs import results, unfinished_files
    from clearclip.runs.processes import processes

    source = pictures(chosen.sources, chosen.limit)
    collected, kept = [], []
    for name, load in zip(chosen.models, models(chosen), strict=True):
        unfinished = unfinished_files.beside(output, name)
        collected.append(
            collect(
                load(),
                source,
                statistics,
                layers=chosen.layers or None,
                image_size=chosen.image_size,
                batch_size=chosen.batch_size,
                strict=chosen.strict,
                unfinished=unfinished,
            )
        )
        kept.append(unfinished)
    dataset = store.merge_models(collected)
    processes().leave_the_rest_to_the_first()
    results.write(dataset, output)
    unfinished_files.discard(kept)
    return dataset


def load_one_by_one(
    chosen: Options, output: Path, measure: "Callable[[Backbone, list[Picture]], xr.Dataset]"
) -> "xr.Dataset":
    """The Dataset of `measure(model, pictures)` over all models, written; or the one named with --data."""
    from analysis.probes import store
    from analysis.probes.images import pictures, readable
    from clearclip.runs import results

    if chosen.data is not None:
        return store.read(chosen.data)
    source = readable(pictures(chosen.sources, chosen.limit), chosen.strict)
    dataset = store.merge_models([measure(load(), source) for load in models(chosen)])
    results.write(dataset, output)
    return dataset


def print_table(dataset: "xr.Dataset", variable: str, tokens: str) -> None:
    """Layers × features, columns for each model, a table for each source of pictures, means over its images."""
    about = f"{dataset[variable].attrs['long_name']} [{dataset[variable].attrs['units']}]"
    for source, values in dataset[variable].sel(tokens=tokens).groupby("source"):
        means = values.mean("image").transpose("layer", "model", "feature")
        print(f"{about}, {tokens} tokens, mean over {values.sizes['image']} images of {source}")
        table = means.stack(column=("model", "feature")).to_pandas()
        print(table.to_string(float_format=lambda value: f"{value:.4g}", na_rep=""))


def tidy(dataset: "xr.Dataset") -> "pd.DataFrame":
    """One row a source, model, layer, feature, tokens and statistic: mean and standard deviation over the images."""
    import pandas as pd

    frames = []
    for name, variable in dataset.data_vars.items():
        if "image" in variable.dims:
            for source, values in variable.groupby("source"):
                frame = _rows(values.mean("image"), "mean")
                frame["std"] = _rows(values.std("image"), "std")["std"]
                frame.insert(0, "source", source)
                frame.insert(5, "statistic", str(name))
                frame["images"] = values.sizes["image"]
                frames.append(frame)
    rows = pd.concat(frames, ignore_index=True).dropna(subset="mean")
    return with_origin(rows, dataset)


def with_origin(rows: "pd.DataFrame", dataset: "xr.Dataset") -> "pd.DataFrame":
    """The rows with a column that says whether their model has random weights."""
    random = dict(zip(dataset.model.values.tolist(), dataset.random_weights.values.tolist(), strict=True))
    return rows.assign(random_weights=rows["model"].map(random))


def _rows(values: "xr.DataArray", name: str) -> "pd.DataFrame":
    """A variable as rows, its dimensions as columns, without other coordinates."""
    return values.reset_coords(drop=True).to_dataframe(name).reset_index()


def announce(
    dataset: "xr.Dataset", rows: "pd.DataFrame", drawn: "Figure", output: Path, figure: Path, new: bool
) -> None:
    """Write the csv and the figure beside the Dataset, and say where everything is."""
    import json

    from clearclip.segmentation import style

    for model, random in zip(dataset.model.values, dataset.random_weights.values, strict=True):
        if random:
            print(f"{model}: RANDOM WEIGHTS, numbers say nothing about a trained model")
    skipped = json.loads(dataset.attrs.get("skipped", "[]"))
    if skipped:
        print(f"skipped {len(skipped)} pictures that could not be read")
    written = [output] if new else []
    if new:
        table = output.with_suffix(".csv")
        rows.to_csv(table, index=False)
        written.append(table)
    style.save(drawn, figure)
    print("wrote " + ", ".join(map(str, [*written, figure])))
