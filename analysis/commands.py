"""What the doors share: their options, and the way from options to Dataset, table and figure.

A door is a question (its docstring), `Options` composed of the parts here and in `clearclip.cli`, `run(options)` that
returns the Dataset, and `main()`, which presents it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from clearclip import outputs
from clearclip.cli import Models, Result, Running, dataset_file, facts, loaders, of_view
from clearclip.commands import EvaluationOptions, computed, computed_or_reused, print_origin, same_data
from clearclip.errors import UserError, of_file
from clearclip.models.names import SHIPPED

if TYPE_CHECKING:  # doors answer --help at once, so what they call is imported when it is called
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from analysis.probes.images import Picture
    from analysis.probes.statistics import Statistic
    from clearclip.models.backbone import Backbone


@dataclass(frozen=True)
class Pictures:
    """Which pictures."""

    images: tuple[str, ...] = ()
    """Folders of pictures (searched recursively), single files, a benchmark such as voc21:data/voc, photographs
    (scikit-image's) or scenes (drawn); by default photographs, and both for the two models that come with the package. Statistics
    also take one stream of any length, webdataset:data/train-{000..099}.tar or hf:NAME:SPLIT."""
    image_size: int | None = None
    """Side in pixels; by default the weights' own. 448 is the segmentation protocol's."""


@dataclass(frozen=True)
class Layers:
    """Where in the models."""

    layers: tuple[int, ...] = ()
    """Only these layers, counted from 1 as in the paper."""


@dataclass(frozen=True)
class Graph:
    """How the models run."""

    compiled: bool = False
    """Run blocks and statistics in one graph of torch.compile: faster per picture, after up to a few minutes of compiling."""


@dataclass(frozen=True)
class View:
    """What the table and the figure show; the Dataset has everything."""

    tokens: Literal["patches", "all"] = "patches"
    """Which tokens: patches, or all with CLS and registers."""


@dataclass(frozen=True)
class Drawing:
    """Where the figure goes."""

    figure: Path | None = None
    """The figure, .png, .pdf or .svg; by default beside the Dataset."""
    data: Path | None = None
    """Draw an existing Dataset again, without running any model."""


@dataclass(frozen=True, kw_only=True)
class BlocksOptions:
    """The options of the doors that look inside the blocks."""

    models: Models = Models(SHIPPED)
    pictures: Pictures = Pictures()
    layers: Layers = Layers()
    running: Running = Running()
    result: Result
    drawing: Drawing = Drawing()
    view: View = View()


@dataclass(frozen=True, kw_only=True)
class StatisticsOptions(BlocksOptions):
    """The options of the doors that measure statistics."""

    graph: Graph = Graph()


@dataclass(frozen=True, kw_only=True)
class SweepOptions(EvaluationOptions):
    """The options of the doors that measure recipes on labelled pictures, and draw what they measured."""

    drawing: Drawing = Drawing()


class Presentable(Protocol):
    """The options of any door that writes a Dataset and draws it."""

    @property
    def result(self) -> Result: ...  # noqa: D102
    @property
    def drawing(self) -> Drawing: ...  # noqa: D102


class PicturesOptions(Protocol):
    """The options of any door that looks at a few pictures."""

    @property
    def models(self) -> Models: ...  # noqa: D102
    @property
    def pictures(self) -> Pictures: ...  # noqa: D102
    @property
    def running(self) -> Running: ...  # noqa: D102


DRAWN = {
    "figure",
    "data",
    "map_layer",
    "miou",
}  # options that matter where nothing is computed, beside those of a `View`

Options = TypeVar("Options", bound=Presentable)
Statistics = TypeVar("Statistics", bound=StatisticsOptions)
Sweep = TypeVar("Sweep", bound=SweepOptions)


# from options to Dataset ---------------------------------------------------------------------------------------------


def listed(models: Models, pictures: Pictures, running: Running) -> list[Picture]:
    """The pictures that were named, or the default ones."""
    from analysis.probes.images import pictures as of_sources

    default = ("photographs", "scenes") if models.model == SHIPPED else ("photographs",)
    return of_sources(pictures.images or default, running.limit)


def statistics(options: StatisticsOptions, measured: Sequence[str] | dict[str, Statistic]) -> xr.Dataset:
    """One Dataset of these statistics over all models; of a stream, its parts go into a folder beside the Dataset."""
    from analysis.probes.collection import collect_models
    from clearclip.runs.unfinished_files import parts_of

    if options.graph.compiled and (options.models.ablate or options.models.registers):
        raise UserError("--compiled lets nobody act inside a block: leave it out, or --ablate and --registers.")
    models, running, output = loaders(options.models, options.running), options.running, dataset_file(options.result)
    how: dict[str, Any] = {
        "layers": options.layers.layers or None,
        "image_size": options.pictures.image_size,
        "batch_size": running.batch_size,
        "strict": running.strict,
        "compiled": options.graph.compiled,
    }
    if is_stream(options.pictures):
        from analysis.scale import collection as of_shards

        (source,) = options.pictures.images
        return of_shards.collect_models(models, source, measured, parts_of(output), limit=running.limit, **how)
    return collect_models(models, listed(options.models, options.pictures, running), measured, output, **how)


def is_stream(pictures: Pictures) -> bool:
    """Whether a stream is named, which goes alone: other sources are listed beforehand."""
    from analysis.probes.images import is_streamed

    return len(pictures.images) == 1 and is_streamed(pictures.images[0])


def each_model(options: PicturesOptions, measure: Callable[[Backbone, list[Picture]], xr.Dataset]) -> xr.Dataset:
    """One Dataset of `measure(model, pictures)` over all models, of those pictures that can be read."""
    from analysis.probes import store
    from analysis.probes.samples import readable

    pictures = readable(listed(options.models, options.pictures, options.running), options.running.strict)
    return store.merge_models([measure(load(), pictures) for load in loaders(options.models, options.running)])


# from Dataset to table and figure ------------------------------------------------------------------------------------


def present(
    run: Callable[[Options], xr.Dataset],
    options: Options,
    *,
    read: Callable[[Path], xr.Dataset],
    report: Callable[[xr.Dataset], str],
    reading: Callable[[xr.Dataset], list[str]],
    rows: Callable[[xr.Dataset], pd.DataFrame],
    draw: Callable[[xr.Dataset], Figure] | Mapping[str, Callable[[xr.Dataset], Figure]],
    same_pictures: Callable[[xr.Dataset], bool] | None = None,
) -> None:
    """Compute a door's Dataset, print its table, write .nc, .csv and figure, and end with what the numbers say.

    Args:
        run, options: the door's.
        read: reads the door's Dataset, with --data instead of computing it.
        report: the printed table.
        reading: the sentences at the end.
        rows: what the .csv holds.
        draw: the figure, or several of them by what is added to their file names.
        same_pictures: whether the pictures still have the contents of those that a Dataset is about. With it, a finished
            one is used and not computed again.
    """
    from clearclip.segmentation import style

    data, output = options.drawing.data, dataset_file(options.result)
    if data is not None:
        refuse_computing(options)
    picture = options.drawing.figure or (data or output).with_suffix(".png")
    drawings = draw if isinstance(draw, Mapping) else {"": draw}
    figures = {name: picture.with_stem(f"{picture.stem}_{name}") if name else picture for name in drawings}
    for file in figures.values():
        style.refuse_unwritable(file)
    style.refuse_replacing(figures.values(), () if data else facts(options).get("images", ()))
    if data is not None:
        dataset = read(data)
    elif same_pictures is not None:
        dataset = computed_or_reused(run, options, read, same_pictures)
    else:
        dataset = computed(run, options)
    with of_file(data):
        print(report(dataset))
    print_origin(dataset)
    written = []
    if data is None:
        table = output.with_suffix(".csv")
        outputs.write(table, rows(dataset).to_csv(index=False))
        written = [output, table]
    for name, figure in drawings.items():
        with of_file(data):
            drawing = figure(dataset)
        style.save(drawing, figures[name])
        written.append(figures[name])
    print("wrote " + ", ".join(map(str, written)))
    with of_file(data):
        sentences = reading(dataset)
    for sentence in sentences:
        print(sentence)


def refuse_computing(options: Presentable) -> None:
    """Raise `UserError` for options that say what to compute: with --data nothing is."""
    usual = facts(type(options)())
    drawn = DRAWN | of_view(options)
    unused = [name for name, value in facts(options).items() if value != usual[name] and name not in drawn]
    if unused:
        named = [f"--{name.replace('_', '-')}" for name in unused]
        raise UserError(f"--data draws what is finished, so it goes without {', '.join(named)}.")


def present_statistics(
    run: Callable[[Statistics], xr.Dataset],
    options: Statistics,
    views: Mapping[str, Callable[[xr.Dataset, str], Figure]],
) -> None:
    """`present` for statistics: a table, a figure and, if there is one, a reading of each of some variables."""
    from analysis.probes import store
    from analysis.probes.table import layer_table, tidy
    from analysis.readings.statistics import READINGS
    from clearclip.entries import digest_now

    tokens = options.view.tokens
    drawings = {name: _with(draw, tokens) for name, draw in views.items()}

    def read(path: Path) -> xr.Dataset:
        dataset = store.read(path)
        for variable in views:
            if variable not in dataset:
                raise UserError(f"{path} has no {variable}; it has {', '.join(map(str, dataset.data_vars))}.")
        return dataset

    def same_pictures(dataset: xr.Dataset) -> bool:
        pictures = listed(options.models, options.pictures, options.running)
        return bool(dataset.attrs["image_list_sha256"] == digest_now(pictures))

    present(
        run,
        options,
        read=read,
        report=lambda dataset: "\n".join(layer_table(dataset, variable, tokens) for variable in views),
        reading=lambda dataset: [
            sentence for variable in views if variable in READINGS for sentence in READINGS[variable](dataset, tokens)
        ],
        rows=tidy,
        draw=drawings if len(drawings) > 1 else next(iter(drawings.values())),
        same_pictures=None if is_stream(options.pictures) else same_pictures,  # a stream goes over its own parts again
    )


def _with(draw: Callable[[xr.Dataset, str], Figure], tokens: str) -> Callable[[xr.Dataset], Figure]:
    return lambda dataset: draw(dataset, tokens)


def present_sweep(
    run: Callable[[Sweep], xr.Dataset],
    options: Sweep,
    draw: Callable[[xr.Dataset], Figure],
    reading: Callable[[xr.Dataset], list[str]],
    show: Callable[[xr.Dataset], pd.DataFrame] | None = None,
) -> None:
    """`present` for recipes on labelled pictures; `show` makes the printed table, by default mIoU by data set."""
    from analysis.sweeps.read import read
    from clearclip.evaluation import table
    from clearclip.evaluation.protocol import notes

    present(
        run,
        options,
        read=read,
        report=lambda dataset: table.report(dataset, (show or table.table)(dataset)),
        reading=lambda dataset: [*notes(dataset), *reading(dataset)],
        rows=table.tidy,
        draw=draw,
        same_pictures=partial(same_data, options.labelled, options.running.limit),
    )
